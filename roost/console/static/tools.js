"use strict";
/* Dialogs, saved views, the keys (?), and commands and places by name (Ctrl+K, or Cmd+K): what they offer
   is what the page itself has. console.js loads this when it is first asked for. */
window.roostTools = ({ root, store, tellViews }) => {
  const dialog = document.getElementById("dialog");
  /* --- dialogs ------------------------------------------------------------------------- */
  const show = async (href, options = {}) => {
    const answer = await fetch(href, { headers: { "X-Roost-Live": "1", Accept: "text/html" }, credentials: "same-origin", ...options });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const inner = page.querySelector("main .card");
    if (!inner) { location.href = href; return; }
    dialog.replaceChildren(inner);
    if (!dialog.open) dialog.showModal();
    const first = dialog.querySelector("textarea, input:not([type=hidden]), select");
    if (first) first.focus();
  };
  const send = async (form, button) => {
    const body = new URLSearchParams(new FormData(form));
    if (button && button.name) body.set(button.name, button.value);
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { "X-Roost-Live": "1", Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected) { location.href = answer.url; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const inner = page.querySelector("main .card");
    if (inner) { dialog.replaceChildren(inner); if (!dialog.open) dialog.showModal(); }
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

  /* --- commands and places by name ----------------------------------------------------- */
  const OTHER = [["Who did what", "/events?by=people"], ["Workspaces on this host", "/workspaces"], ["Enqueue work", "/work/new"]];
  const SHOWN_MAX = 12;

  const press = (node) => () => node.click();
  const follow = (path) => () => { location.href = root + path; };
  const text = (node) => node.textContent.replace(/\s+/g, " ").trim();

  /* Everything that could be meant now: acts of this page first, then places, then views. */
  const known = () => {
    const found = [];
    for (const node of document.querySelectorAll("main .acts a.btn, main .acts button, main a[data-dialog].btn")) {
      if (!node.hidden && !node.classList.contains("off")) found.push({ name: text(node), kind: "here", run: press(node) });
    }
    for (const id of ["pause", "stay", "theme", "save-view", "keys"]) {
      const node = document.getElementById(id);
      if (node && !node.hidden) found.push({ name: node.getAttribute("aria-label") || text(node), kind: "here", run: press(node) });
    }
    for (const link of document.querySelectorAll("nav.main a")) {
      found.push({ name: "Go to " + link.firstChild.textContent.trim(), kind: "place", run: press(link) });
    }
    for (const [name, path] of OTHER) found.push({ name, kind: "place", run: follow(path) });
    for (const view of store.get("views") || []) found.push({ name: view.name, kind: "view", run: follow("/work?" + view.query) });
    return found;
  };
  /* Letters in order, those at the beginnings of words first. */
  const score = (name, wanted) => {
    const low = name.toLowerCase(), at = low.indexOf(wanted);
    if (at >= 0) return at && low[at - 1] !== " " ? 1 : 2;
    let place = 0;
    for (const letter of wanted) { place = low.indexOf(letter, place) + 1; if (!place) return -1; }
    return 0;
  };
  const matching = (typed) => {
    const wanted = typed.trim().toLowerCase();
    const found = known().map((one) => ({ ...one, score: score(one.name, wanted) })).filter((one) => one.score >= 0);
    found.sort((a, b) => b.score - a.score);
    if (/^[\w.:~/-]{3,}$/.test(typed.trim())) {
      found.push({ name: "Open work item " + typed.trim(), kind: "work", run: follow("/work/" + typed.trim().replace("/", "~")) });
    }
    if (wanted) found.push({ name: "Filter work by " + typed.trim(), kind: "filter", run: follow("/work?q=" + encodeURIComponent(typed.trim())) });
    return found.slice(0, SHOWN_MAX);
  };

  const open = () => {
    const card = document.createElement("section"), title = document.createElement("h1");
    const input = document.createElement("input"), list = document.createElement("ul");
    card.className = "card palette";
    title.id = "dialog-title";
    title.className = "sr";
    title.textContent = "Commands";
    Object.assign(input, { type: "text", autocomplete: "off", placeholder: "A command, a place, a work id or a filter" });
    for (const [name, value] of [["role", "combobox"], ["aria-label", "Command"], ["aria-controls", "palette-list"], ["aria-expanded", "true"]]) input.setAttribute(name, value);
    list.id = "palette-list";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Commands");
    card.append(title, input, list);
    let shown = [], at = 0;
    const mark = () => {
      [...list.children].forEach((node, place) => node.setAttribute("aria-selected", String(place === at)));
      input.setAttribute("aria-activedescendant", shown.length ? "command-" + at : "");
      if (list.children[at]) list.children[at].scrollIntoView({ block: "nearest" });
    };
    const run = (place) => { const chosen = shown[place]; if (chosen) { dialog.close(); chosen.run(); } };
    const draw = () => {
      shown = matching(input.value);
      at = 0;
      list.replaceChildren(...shown.map((one, place) => {
        const node = document.createElement("li"), kind = document.createElement("span");
        node.id = "command-" + place;
        node.setAttribute("role", "option");
        kind.textContent = one.kind;
        node.append(one.name, kind);
        node.addEventListener("click", () => run(place));
        return node;
      }));
      mark();
    };
    input.addEventListener("input", draw);
    input.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && shown.length) { event.preventDefault(); at = (at + step + shown.length) % shown.length; mark(); }
      if (event.key === "Enter") { event.preventDefault(); run(at); }
    });
    dialog.replaceChildren(card);
    draw();
    if (!dialog.open) dialog.showModal();
    input.focus();
  };
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
  return { open: show, send, palette: open, keys: help, "save-view": saveView };
};
