"use strict";
/* Makes pages live and quick to use; tools.js, which is loaded when it is asked for, has dialogs, commands
   and keys. Every page works without both. */
(() => {
  const POLL_MS = 2000, POLL_STREAMING_MS = 3000, POLL_MAX_MS = 60000;
  const root = document.body.dataset.root || "";
  const $ = (id) => document.getElementById(id);
  const all = (selector, under = document) => [...under.querySelectorAll(selector)];
  const store = {
    get(key) { try { return JSON.parse(localStorage.getItem("roost." + key)); } catch { return null; } },
    set(key, value) { try { localStorage.setItem("roost." + key, JSON.stringify(value)); } catch { /* full or off */ } },
  };

  /* --- times in words, in local time --------------------------------------------------- */
  const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const span = (seconds) => {
    let left = Math.abs(seconds);
    if (left < 1) return Math.round(left * 1000) + " ms";
    if (left < 10) return left.toFixed(1) + " s";
    const parts = [];
    for (const [unit, size] of UNITS) {
      const count = Math.floor(left / size);
      left -= count * size;
      if (count) parts.push(count + " " + unit);
    }
    return parts.slice(0, 2).join(" ");
  };
  const clockText = (at, digits = 0) => new Date(at * 1000).toLocaleTimeString([], { hour12: false })
    + (digits ? (Math.floor((at % 1) * 10 ** digits) / 10 ** digits).toFixed(digits).slice(1) : "");
  const drift = () => Date.now() / 1000;
  const tellTimes = () => {
    const now = drift();
    for (const node of all("time[datetime],text[data-at]")) {
      const at = node.dateTime ? Date.parse(node.dateTime) / 1000 : Number(node.dataset.at), as = node.dataset.as;
      const text = as === "clock" ? clockText(at, Number(node.dataset.digits || 0)) : as === "age" ? span(now - at)
        : at > now ? "in " + span(at - now) : span(now - at) + " ago";
      if (node.textContent !== text) node.textContent = text;
    }
    for (const end of all("progress.lease + time")) {
      const bar = end.previousElementSibling;
      bar.value = Math.min(1, Math.max(0, (Date.parse(end.dateTime) / 1000 - now) / Number(document.body.dataset.lease)));
      bar.classList.toggle("bad", bar.value < 0.15);
    }
    if (checkedAt) $("live-age").textContent = span((Date.now() - checkedAt) / 1000).replace(/^\d+ ms$/, "now");
  };

  /* What is under the pointer, in full: the exact time, and text that is cut off. */
  const told = new WeakSet();
  const isCut = (node) => node && node.scrollWidth > node.clientWidth && getComputedStyle(node).textOverflow === "ellipsis";
  document.addEventListener("mouseover", ({ target }) => {
    const exact = target.closest("time[datetime], progress");
    const node = exact || [target, target.parentElement].find(isCut);
    if (!node || (node.title && !told.has(node))) return;
    told.add(node);
    node.title = !exact ? node.textContent.trim() : exact.getAttribute("aria-label") || exact.dateTime.replace("T", " ").replace("Z", " UTC");
  });

  /* --- changing a page in place -------------------------------------------------------- */
  const isKept = (node) => node === document.activeElement && /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName);
  const sync = (old, fresh) => {
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
      if (fresh.hasAttribute(name) || (name === "open" && old.tagName === "DETAILS") || (name === "title" && told.has(old))) continue;
      old.removeAttribute(name);
    }
  };
  /* A row without an id is known by where its first link leads. A form's .id may be a field of that name. */
  const key = (node) => {
    if (node.nodeType !== 1) return null;
    const link = node.tagName === "TR" && !node.hasAttribute("id") && node.querySelector("a");
    return link ? link.getAttribute("href") : node.getAttribute("id");
  };
  const morph = (old, fresh) => {
    if (old.isEqualNode(fresh) || isKept(old)) return;
    if (old.nodeType !== 1) { if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue; return; }
    sync(old, fresh);
    const byId = new Map([...old.childNodes].filter(key).map((node) => [key(node), node]));
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = key(child) ? byId.get(key(child)) : at && !key(at) && at.nodeName === child.nodeName ? at : null;
      if (same && same.nodeName === child.nodeName) {
        if (same === at) at = at.nextSibling; else old.insertBefore(same, at);
        morph(same, child);
      } else {
        old.insertBefore(child, at);
      }
    }
    while (at) { const next = at.nextSibling; if (!isKept(at)) at.remove(); at = next; }
  };

  /* Rows never move under the pointer: while it is over them, or some are chosen, only the rows
     that are there change; what came or went waits behind a button. */
  const rowsOf = (under) => under.querySelector("table[data-rows] tbody");
  const keysOf = (body) => [...body.rows].map(key);
  const areHeld = (body) => body.matches(":hover") || !!body.querySelector("input:checked, tr.at");
  let waiting = null;
  const hold = (fresh) => {
    const old = rowsOf($("main")), young = rowsOf(fresh), news = $("news");
    if (!old || !young || !news || !areHeld(old)) { waiting = null; return; }
    const were = keysOf(old), are = keysOf(young);
    if (were.join(" ") === are.join(" ")) { waiting = null; return; }
    waiting = fresh.cloneNode(true);
    const known = new Map([...young.rows].map((row) => [key(row), row]));
    young.replaceChildren(...[...old.rows].map((row) => known.get(key(row)) || row.cloneNode(true)));
    const notice = fresh.querySelector("#news"), button = fresh.querySelector("#show-news");
    const came = are.filter((one) => !were.includes(one)).length, gone = were.filter((one) => !are.includes(one)).length;
    if (!notice || !button) return;
    notice.hidden = false;
    button.textContent = [came && came + " new", gone && gone + " no longer here"].filter(Boolean).join(", ") || "In another order now";
  };
  const keepChecks = (change) => {
    const chosen = new Set(all("#main input[name=id]:checked").map((box) => box.value));
    change();
    for (const box of all("#main input[name=id]")) box.checked = chosen.has(box.value);
    dress();
  };
  const apply = (main) => keepChecks(() => morph($("main"), main));

  /* --- asking for what changed --------------------------------------------------------- */
  /* Nothing is asked for while the page is out of sight, or another window has the focus: then it says
     so, and asks at once on return. Who wants it live beside another window says "stay live", for good. */
  let etag = null, checkedAt = 0, isPaused = false, isAway = !document.hasFocus(), isAsking = false, failures = 0, stream = null, timer = 0;
  const show = (word, kind = "") => {
    const live = $("live");
    if (!live) return;
    live.className = "live " + kind;
    $("live-word").textContent = word;
  };
  const staysLive = () => store.get("stay") === true;
  const isResting = () => document.hidden || (isAway && !staysLive());
  const ask = async () => {
    clearTimeout(timer);
    if (isPaused || isResting() || isAsking || !$("live")) return;
    isAsking = true;
    try {
      const headers = { "X-Roost-Live": "1", Accept: "text/html" };
      if (etag) headers["If-None-Match"] = etag;
      const answer = await fetch(location.href, { headers, cache: "no-store", credentials: "same-origin" });
      if (answer.status === 200) {
        etag = answer.headers.get("ETag");
        take(await answer.text());
      } else if (answer.status !== 304) throw new Error(String(answer.status));
      checkedAt = Date.now();
      failures = 0;
      show("Live");
    } catch {
      failures += 1;
      show("Not reachable", "lost");
    } finally {
      isAsking = false;
      if (isResting()) rest(); else plan();
    }
  };
  const plan = () => {
    const usual = stream && stream.readyState === 1 ? POLL_STREAMING_MS : POLL_MS;
    timer = setTimeout(ask, Math.min(POLL_MAX_MS, usual * 2 ** Math.min(failures, 5)));
  };
  const take = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const main = page.querySelector("main"), badge = page.querySelector("#nav-failed");
    if (!main) return;
    document.title = page.title;
    if (badge && $("nav-failed")) morph($("nav-failed"), badge);
    hold(main);
    apply(main);
    tellTimes();
  };
  const pause = (on) => {
    isPaused = on;
    $("pause").textContent = on ? "Resume" : "Pause";
    $("pause").setAttribute("aria-pressed", String(on));
    if (on) { clearTimeout(timer); show("Paused", "off"); } else ask();
  };
  const stay = (on) => {
    store.set("stay", on);
    $("stay").setAttribute("aria-pressed", String(on));
    rest();
  };
  /* The focus came or went, or the tab did: go on, or rest, and let go of the stream. */
  const rest = () => {
    if (!$("live")) return;
    if (!isResting()) { listen(); ask(); return; }
    clearTimeout(timer);
    if (stream) stream.close();
    stream = null;
    if (!isPaused) show("Paused while away", "off");
  };
  const listen = () => {
    if (!window.EventSource || stream || !$("live")) return;
    stream = new EventSource(root + "/stream");
    stream.addEventListener("changed", ask);
    stream.onerror = () => { if (stream && stream.readyState === 2) stream = null; };
  };
  const go = async (href, keepPlace = true) => {
    history[keepPlace ? "replaceState" : "pushState"](null, "", href);
    etag = null;
    isAsking = false;
    const was = isPaused;
    isPaused = isAway = false;
    await ask();
    if (was) pause(true);
  };

  /* --- choosing rows ------------------------------------------------------------------- */
  let lastBox = null;
  const boxes = () => all("#main input[name=id]");
  const dress = () => {
    const count = boxes().filter((box) => { box.closest("tr").classList.toggle("on", box.checked); return box.checked; }).length;
    const bar = $("bulk-bar");
    if (bar) {
      bar.classList.toggle("on", count > 0);
      $("bulk-count").textContent = count ? count + " chosen" : "Choose rows,";
      bar.querySelector(".ink2").hidden = count > 0;
    }
    if ($("all")) { $("all").hidden = false; $("all").checked = count > 0 && count === boxes().length; }
    for (const box of boxes()) box.setAttribute("aria-label", "Select " + box.value);
    for (const button of all("button.copy")) button.hidden = false;
    if ($("save-view")) $("save-view").hidden = false;
    for (const node of all(".vers .go")) node.hidden = true;
    tellViews();
  };
  document.addEventListener("click", (event) => {
    const box = event.target.closest("input[name=id]");
    if (!box) return;
    const list = boxes();
    if (event.shiftKey && lastBox && list.includes(lastBox)) {
      const [a, b] = [list.indexOf(lastBox), list.indexOf(box)].sort((x, y) => x - y);
      for (const other of list.slice(a, b + 1)) other.checked = box.checked;
    }
    lastBox = box;
    dress();
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "sort") event.target.form.requestSubmit();
    if (event.target.id === "all") { for (const box of boxes()) box.checked = event.target.checked; dress(); }
    if (event.target.closest("#versions")) {
      const form = new FormData($("versions"));
      if (event.target.id === "slider") form.delete("from");
      go(location.pathname + "?" + new URLSearchParams(form));
    }
  });

  /* --- saved views --------------------------------------------------------------------- */
  const tellViews = () => {
    const section = $("views"), views = store.get("views") || [];
    if (!section) return;
    section.hidden = !views.length;
    for (const old of all("a", section)) old.remove();
    for (const view of views) {
      const link = document.createElement("a");
      link.href = root + "/work?" + view.query;
      const name = document.createElement("span");
      name.textContent = view.name;
      link.append(name);
      section.append(link);
    }
  };
  /* --- what is loaded when it is asked for: dialogs, commands, keys ------------------------- */
  const dialog = $("dialog");
  const tools = () => {
    if (window.roost) return window.roost;
    const script = document.createElement("script");
    script.src = root + "/static/" + document.body.dataset.build + "/tools.js";
    document.head.append(script);
    window.roost = new Promise((resolve, reject) => Object.assign(script, { onload: () => resolve(window.roostTools({ root, store, tellViews })), onerror: reject }));
    window.roost.catch(() => { window.roost = null; });
    return window.roost;
  };
  document.addEventListener("submit", (event) => {
    const form = event.target, { submitter } = event;
    const isBulk = form.getAttribute("id") === "bulk" || form.hasAttribute("data-ask");
    if (!dialog.contains(form) && !isBulk) return;
    event.preventDefault();
    tools().then((own) => own.send(form, submitter), () => form.submit());
  });

  /* --- clicks and keys ----------------------------------------------------------------- */
  const copy = async (button) => {
    const text = button.dataset.copy;
    try { await navigator.clipboard.writeText(text); } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("done");
    const label = button.lastChild;
    if (label && label.nodeType === 3) {
      const before = label.nodeValue;
      label.nodeValue = "Copied";
      setTimeout(() => { label.nodeValue = before; }, 1200);
    }
  };
  const switchTheme = () => {
    const scheme = getComputedStyle(document.documentElement).colorScheme;
    const isDark = scheme === "dark" || (scheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    document.cookie = "roost_theme=" + (isDark ? "light" : "dark") + ";path=" + (root || "/") + ";max-age=31536000;samesite=strict";
  };
  document.addEventListener("click", (event) => {
    const copied = event.target.closest("button.copy");
    if (copied) { copy(copied); return; }
    if (event.target.closest("[data-close]") && dialog.open) { event.preventDefault(); dialog.close(); return; }
    if (event.target === dialog) { dialog.close(); return; }
    const link = event.target.closest("a");
    if (event.target.closest("#show-news")) { if (waiting) { apply(waiting); waiting = null; } return; }
    for (const name of ["save-view", "keys", "palette"]) if (event.target.closest("#" + name)) { tools().then((own) => own[name]()); return; }
    if (event.target.closest("#pause")) { pause(!isPaused); return; }
    if (event.target.closest("#theme")) { switchTheme(); return; }
    if (event.target.closest("#stay")) { stay(!staysLive()); return; }
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    if (link.hasAttribute("data-dialog")) { event.preventDefault(); tools().then((own) => own.open(link.href), () => { location.href = link.href; }); return; }
    if (link.closest("#panel") && link.pathname === location.pathname) { event.preventDefault(); go(link.href); }
  });

  let prefix = "";
  const move = (step) => {
    const body = rowsOf($("main"));
    if (!body) return;
    const rows = [...body.rows].filter((row) => row.querySelector("a"));
    const at = rows.findIndex((row) => row.classList.contains("at"));
    const next = rows[Math.min(rows.length - 1, Math.max(0, at + step))];
    if (at >= 0) rows[at].classList.remove("at");
    if (next) { next.classList.add("at"); next.querySelector("a").focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" }); }
  };
  const PLACES = { w: "/work", f: "/failed", e: "/events", o: "/", r: "/resources", s: "/settings" };
  const KEYS = {
    j: () => move(1), k: () => move(-1), p: () => pause(!isPaused), t: switchTheme, "?": () => tools().then((own) => own.keys()),
    x: () => { const box = document.querySelector("tr.at input[name=id]"); if (box) { box.checked = !box.checked; dress(); } },
  };
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") { event.preventDefault(); tools().then((own) => own.palette()); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key === "Escape") { for (const row of all("tr.at")) row.classList.remove("at"); return; }
    if (prefix === "g" && PLACES[event.key]) { location.href = root + PLACES[event.key]; return; }
    prefix = event.key;
    const marked = all("[data-key]").find((node) => node.dataset.key === event.key);
    if (marked) { event.preventDefault(); if (marked.tagName === "INPUT") marked.focus(); else marked.click(); return; }
    if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
  });

  /* --- begin --------------------------------------------------------------------------- */
  for (const id of ["live", "pause", "stay", "theme", "keys", "palette"]) if ($(id)) $(id).hidden = false;
  for (const node of all(".local-times")) node.hidden = false;
  for (const node of all(".utc-times")) node.hidden = true;
  const here = document.querySelector("nav.main [aria-current]");
  if (here) here.scrollIntoView({ block: "nearest", inline: "nearest" });
  dress();
  checkedAt = Date.now();
  tellTimes();
  setInterval(tellTimes, 1000);
  document.addEventListener("visibilitychange", rest);
  for (const [name, away] of [["blur", true], ["focus", false]]) window.addEventListener(name, () => { isAway = away; rest(); });
  if ($("live")) {
    $("stay").setAttribute("aria-pressed", String(staysLive()));
    plan();
    if (isResting()) rest(); else listen();
  }
})();
