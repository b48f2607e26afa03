"use strict";
/* Makes pages live and quick to use; palette.js has the commands. Every page works without both. */
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
    for (const rect of all("rect[data-until]")) {
      const share = Math.min(1, Math.max(0, (Number(rect.dataset.until) - now) / Number(rect.dataset.span)));
      rect.setAttribute("width", (share * 100).toFixed(1) + "%");
      rect.ownerSVGElement.classList.toggle("bad", share < 0.15);
    }
    if (checkedAt) $("live-age").textContent = span((Date.now() - checkedAt) / 1000).replace(/^\d+ ms$/, "now");
  };

  /* --- changing a page in place -------------------------------------------------------- */
  const isKept = (node) => node === document.activeElement && /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName);
  const sync = (old, fresh) => {
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.tagName === "DETAILS")) old.removeAttribute(name);
    }
  };
  const key = (node) => (node.nodeType === 1 ? node.getAttribute("id") : null);  // a form's .id may be a field of that name
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
  const idsOf = (body) => [...body.rows].map((row) => row.id).join(" ");
  const areHeld = (body) => body.matches(":hover") || !!body.querySelector("input:checked, tr.at");
  let waiting = null;
  const hold = (fresh) => {
    const old = rowsOf($("main")), young = rowsOf(fresh), news = $("news");
    if (!old || !young || !news || !areHeld(old) || idsOf(old) === idsOf(young)) { waiting = null; return; }
    waiting = fresh.cloneNode(true);
    const known = new Map([...young.rows].map((row) => [row.id, row]));
    young.replaceChildren(...[...old.rows].map((row) => known.get(row.id) || row.cloneNode(true)));
    const notice = fresh.querySelector("#news");
    if (notice) notice.hidden = false;
  };
  const keepChecks = (change) => {
    const chosen = new Set(all("#main input[name=id]:checked").map((box) => box.value));
    change();
    for (const box of all("#main input[name=id]")) box.checked = chosen.has(box.value);
    dress();
  };
  const apply = (main) => keepChecks(() => morph($("main"), main));

  /* --- asking for what changed --------------------------------------------------------- */
  let etag = null, checkedAt = 0, isPaused = false, isAsking = false, failures = 0, stream = null, timer = 0;
  const show = (word, kind = "") => {
    const live = $("live");
    if (!live) return;
    live.className = "live " + kind;
    $("live-word").textContent = word;
  };
  const ask = async () => {
    clearTimeout(timer);
    if (isPaused || document.hidden || isAsking || !$("live")) return;
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
      plan();
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
    isPaused = false;
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
    for (const old of all(".f", section)) old.remove();
    for (const view of views) {
      const link = document.createElement("a");
      link.className = "f";
      link.href = root + "/work?" + view.query;
      const name = document.createElement("span");
      name.className = "nm";
      name.textContent = view.name;
      link.append(name);
      section.append(link);
    }
  };
  const saveView = () => {
    const fields = new URLSearchParams(location.search), kept = new URLSearchParams();
    for (const key of ["q", "sort", "cols"]) if (fields.get(key)) kept.set(key, fields.getAll(key).join(","));
    const how = [["sort", "by "], ["cols", "columns "]].filter(([key]) => kept.has(key)).map(([key, word]) => word + kept.get(key));
    const view = { name: [kept.get("q") || "all work", ...how].join(", "), query: kept.toString() };
    const views = store.get("views") || [], others = views.filter((one) => one.query !== view.query);
    store.set("views", others.length < views.length ? others : [...others, view].slice(-12));
    tellViews();
  };

  /* --- dialogs ------------------------------------------------------------------------- */
  const dialog = $("dialog");
  const openDialog = async (href, options = {}) => {
    const answer = await fetch(href, { headers: { "X-Roost-Live": "1", Accept: "text/html" }, credentials: "same-origin", ...options });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const inner = page.querySelector("main .card");
    if (!inner) { location.href = href; return; }
    dialog.replaceChildren(inner);
    if (!dialog.open) dialog.showModal();
    const first = dialog.querySelector("textarea, input:not([type=hidden]), select");
    if (first) first.focus();
  };
  const sendDialog = async (form, button) => {
    const body = new URLSearchParams(new FormData(form));
    if (button && button.name) body.set(button.name, button.value);
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { "X-Roost-Live": "1", Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected) { location.href = answer.url; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const inner = page.querySelector("main .card");
    if (inner) { dialog.replaceChildren(inner); if (!dialog.open) dialog.showModal(); }
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const isInDialog = dialog.contains(form), isBulk = form.getAttribute("id") === "bulk" || form.hasAttribute("data-ask");
    if (!isInDialog && !isBulk) return;
    event.preventDefault();
    sendDialog(form, event.submitter);
  });
  const help = () => {
    const rows = [["/", "filter"], ["j k", "next, previous row"], ["x", "choose the row"], ["Enter", "open the row"],
      ["[ ]", "version before, after"], ["g w", "go to work"], ["g f", "failed"], ["g e", "events"], ["g o", "overview"],
      ["p", "pause live updates"], ["t", "light or dark"], ["Ctrl+K", "commands and places"], ["?", "these keys"], ["Esc", "close"]];
    const card = document.createElement("section");
    card.className = "card pad";
    const title = document.createElement("h1");
    title.id = "dialog-title";
    title.textContent = "Keys";
    const list = document.createElement("dl");
    list.className = "keys";
    for (const [keys, what] of rows) {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      for (const one of keys.split(" ")) { const k = document.createElement("kbd"); k.textContent = one; dt.append(k, " "); }
      dd.textContent = what;
      list.append(dt, dd);
    }
    const close = document.createElement("button");
    close.textContent = "Close";
    close.dataset.close = "";
    card.append(title, list, close);
    dialog.replaceChildren(card);
    if (!dialog.open) dialog.showModal();
  };

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
    const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
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
    if (event.target.closest("#save-view")) { saveView(); return; }
    if (event.target.closest("#pause")) { pause(!isPaused); return; }
    if (event.target.closest("#theme")) { switchTheme(); return; }
    if (event.target.closest("#keys")) { help(); return; }
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    if (link.hasAttribute("data-dialog")) { event.preventDefault(); openDialog(link.href); return; }
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
    j: () => move(1), k: () => move(-1), p: () => pause(!isPaused), t: switchTheme, "?": help,
    x: () => { const box = document.querySelector("tr.at input[name=id]"); if (box) { box.checked = !box.checked; dress(); } },
  };
  document.addEventListener("keydown", (event) => {
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
  for (const id of ["live", "pause", "theme", "keys"]) if ($(id)) $(id).hidden = false;
  for (const node of all(".local-times")) node.hidden = false;
  for (const node of all(".utc-times")) node.hidden = true;
  dress();
  checkedAt = Date.now();
  tellTimes();
  setInterval(tellTimes, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  if ($("live")) { plan(); listen(); }
})();
