// A client in JavaScript, over the console's JSON API, with nothing but what Node 18 brings.
//
// It asks for a refund (the engine of approval.py), waits until a person is asked, decides, and
// waits for the end. Started again with the same order, it goes on with the same work.
//
//     roost worker --engines approval:Refunds &
//     roost ui &
//     node client.mjs http://127.0.0.1:8319 order-17 90000
//
// Where the console wants a token, put it into ROOST_TOKEN. /api/v1/openapi.json describes the rest.

const ENDED = ["done", "failed", "cancelled"];

export class Roost {
  constructor(url, token = process.env.ROOST_TOKEN) {
    this.url = `${url.replace(/\/$/, "")}/api/v1`;
    this.headers = token ? { Authorization: `Bearer ${token}` } : {};
  }

  // The same key gives the same work, however often it is sent, and after a restart of either side.
  async enqueue(engine, payload, { key, ...options } = {}) {
    const made = await this.#call("POST", "/work", { engine, payload, ...options }, key);
    return made.work_id;
  }

  // With an id, a signal that is sent again is one signal.
  signal(workId, name, data, id) {
    return this.#call("POST", `${this.#path(workId)}/signal`, { name, data }, id);
  }

  work(workId) {
    return this.#call("GET", this.#path(workId));
  }

  snapshot(workId, version) {
    return this.#call("GET", `${this.#path(workId)}/snapshots/${version}`);
  }

  // Until `isSo(work)`; what has not changed is not sent again (ETag), and pauses grow to 2 s.
  async until(workId, isSo, { seconds = 60 } = {}) {
    let etag, seen;
    const end = Date.now() + 1000 * seconds;
    for (let pause = 50; Date.now() < end; pause = Math.min(2 * pause, 2000)) {
      const headers = etag ? { "If-None-Match": etag } : {};
      const answer = await this.#fetch("GET", this.#path(workId), { headers });
      if (answer.status !== 304) {
        [etag, seen, pause] = [answer.headers.get("ETag"), await answer.json(), 50];
        if (isSo(seen)) return seen;
        if (ENDED.includes(seen.control.state)) throw new Error(seen.explain);
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    throw new Error(`not within ${seconds} s: ${seen?.explain}`);
  }

  #path(workId) {
    return `/work/${encodeURIComponent(workId.replace("/", "~"))}`; // a namespace is part of the id
  }

  async #call(method, path, body, key) {
    const headers = key ? { "Idempotency-Key": key } : {};
    return (await this.#fetch(method, path, { body, headers })).json();
  }

  // What passes is tried again: every call here may be repeated, as writes have keys.
  async #fetch(method, path, { body, headers }, tries = 4) {
    const content = body === undefined ? {} : { "Content-Type": "application/json" };
    const request = {
      method,
      headers: { ...this.headers, ...content, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    };
    for (let failed = 1; ; failed++) {
      try {
        const answer = await fetch(this.url + path, request);
        if (answer.ok || answer.status === 304) return answer;
        if (answer.status < 500 && answer.status !== 429) throw await problem(answer);
        if (failed === tries) throw await problem(answer);
      } catch (error) {
        if (error.code || failed === tries) throw error; // a problem was understood: no use to repeat it
      }
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** failed * (0.5 + Math.random() / 2)));
    }
  }
}

// Problems are application/problem+json; `code` is stable, `hint` says what to do.
async function problem(answer) {
  const told = await answer.json().catch(() => ({ title: answer.statusText }));
  const text = [told.title, told.detail, told.hint].filter(Boolean).join(" ");
  return Object.assign(new Error(`${answer.status}: ${text}`), { code: told.code, status: answer.status });
}

async function main([url, order, cents]) {
  const roost = new Roost(url);
  const workId = await roost.enqueue("refunds", { order, cents: Number(cents) }, { key: order });
  console.log(`work item ${workId}`);
  const isAsking = (work) => work.control.state === "waiting" || work.control.state === "done";
  const asked = await roost.until(workId, isAsking);
  if (asked.control.state === "waiting") {
    console.log(asked.explain);
    await roost.signal(workId, "decide", { approved: true, why: "a client in JavaScript" }, `${order}-yes`);
  }
  const done = await roost.until(workId, (work) => work.control.state === "done");
  const snapshot = await roost.snapshot(workId, done.control.version);
  console.log(snapshot.result);
}

if (process.argv[1]?.endsWith("client.mjs")) {
  await main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
