"use strict";
/* Commands and places by name: Ctrl+K (or Cmd+K). What it offers is what the page itself has. */
(() => {
  const root = document.body.dataset.root || "";
  const dialog = document.getElementById("dialog"), button = document.getElementById("palette");
  if (!button || !dialog) return;
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
    for (const id of ["pause", "theme", "save-view", "keys"]) {
      const node = document.getElementById(id);
      if (node && !node.hidden) found.push({ name: node.getAttribute("aria-label") || text(node), kind: "here", run: press(node) });
    }
    for (const link of document.querySelectorAll("nav.main a")) {
      found.push({ name: "Go to " + link.firstChild.textContent.trim(), kind: "place", run: press(link) });
    }
    for (const [name, path] of OTHER) found.push({ name, kind: "place", run: follow(path) });
    let views = [];
    try { views = JSON.parse(localStorage.getItem("roost.views")) || []; } catch { /* none are kept */ }
    for (const view of views) found.push({ name: view.name, kind: "view", run: follow("/work?" + view.query) });
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
  button.hidden = false;
  button.addEventListener("click", open);
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") { event.preventDefault(); open(); }
  });
})();
