// What script adds to the pages: keys, completion and checking of the query, brushing of the histogram, new findings
// without reload, copying. Every page works without it.
"use strict";

(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const announce = (text) => {
    const place = $("#announce");
    if (place) place.textContent = text;
  };

  // ---- copying -------------------------------------------------------------------------------------------------

  const copyButtons = () => {
    for (const button of all("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        const text = source.textContent;
        let done = true;
        try {
          await navigator.clipboard.writeText(text);
        } catch {
          // Without a secure context there is no clipboard: select the text, so that the usual keys copy it.
          const range = document.createRange();
          range.selectNodeContents(source);
          getSelection().removeAllRanges();
          getSelection().addRange(range);
          done = false;
        }
        const before = button.textContent;
        button.textContent = done ? "Copied" : "Selected";
        announce(done ? "Copied" : "Selected; press Ctrl+C to copy");
        setTimeout(() => (button.textContent = before), 1500);
      });
    }
  };

  // ---- the query editor ----------------------------------------------------------------------------------------

  const editor = () => {
    const input = $("#q");
    if (!input) return;
    const box = input.closest(".editor");
    const behind = $(".behind", box);
    const list = $("#q-complete");
    const status = $("#q-status");
    let items = [];
    let range = { from: 0, to: 0 };
    let chosen = -1;
    let moved = false;
    let asked = 0;
    let timer = 0;

    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-controls", "q-complete");
    input.setAttribute("aria-expanded", "false");
    input.setAttribute("aria-label", "Query");

    const mark = (from, to) => {
      behind.replaceChildren();
      if (from === undefined) return;
      const text = input.value;
      const fault = document.createElement("mark");
      fault.textContent = text.slice(from, to) || " ";
      behind.append(text.slice(0, from), fault, text.slice(to), " ");
      behind.scrollTop = input.scrollTop;
    };

    const check = async () => {
      const value = input.value;
      try {
        const response = await fetch("/findings/check?" + new URLSearchParams({ q: value }));
        if (!response.ok || response.redirected) return;
        const found = await response.json();
        if (value !== input.value) return;
        box.dataset.state = found.error ? "error" : "fine";
        input.setAttribute("aria-invalid", found.error ? "true" : "false");
        status.textContent = found.error ? `At character ${found.from + 1}: ${found.error}` : "";
        found.error ? mark(found.from, found.to) : mark();
      } catch {
        // The server is away; Run will tell.
      }
    };

    const close = () => {
      list.hidden = true;
      items = [];
      chosen = -1;
      moved = false;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };

    const highlight = (index) => {
      chosen = index;
      for (const [at, option] of [...list.children].entries()) {
        option.setAttribute("aria-selected", String(at === index));
        if (at === index) {
          option.scrollIntoView({ block: "nearest" });
          input.setAttribute("aria-activedescendant", option.id);
        }
      }
    };

    const take = (index) => {
      const item = items[index];
      if (!item) return;
      input.setRangeText(item.text, range.from, range.to, "end");
      close();
      input.dispatchEvent(new Event("input"));
      if (item.text.endsWith(" ") || !item.text.startsWith('"')) complete();
    };

    const complete = async () => {
      const number = ++asked;
      const query = new URLSearchParams({ q: input.value, at: String(input.selectionStart) });
      try {
        const response = await fetch("/findings/complete?" + query);
        if (!response.ok || response.redirected || number !== asked) return;
        const found = await response.json();
        if (number !== asked || document.activeElement !== input) return;
        items = found.items;
        range = found;
        list.replaceChildren(
          ...items.map((item, index) => {
            const option = document.createElement("li");
            option.id = `q-option-${index}`;
            option.setAttribute("role", "option");
            const text = document.createElement("code");
            text.textContent = item.text;
            const hint = document.createElement("span");
            hint.className = "soft";
            hint.textContent = item.hint;
            option.append(text, hint);
            option.addEventListener("mousedown", (event) => {
              event.preventDefault();
              take(index);
            });
            return option;
          }),
        );
        if (!items.length) return close();
        list.hidden = false;
        input.setAttribute("aria-expanded", "true");
        highlight(0);
      } catch {
        close();
      }
    };

    input.addEventListener("input", () => {
      clearTimeout(timer);
      mark();
      timer = setTimeout(() => {
        check();
        if (document.activeElement === input && !list.hidden) complete();
      }, 150);
      if (input.value.trim() !== "" && document.activeElement === input && /[\w.="]$/.test(input.value.slice(0, input.selectionStart))) complete();
    });
    input.addEventListener("scroll", () => (behind.scrollTop = input.scrollTop));
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      const open = !list.hidden;
      if (event.key === " " && event.ctrlKey) {
        event.preventDefault();
        complete();
      } else if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
        event.preventDefault();
        const step = event.key === "ArrowDown" ? 1 : -1;
        moved = true;
        highlight((chosen + step + items.length) % items.length);
      } else if (open && event.key === "Tab" && !event.shiftKey) {
        event.preventDefault();
        take(chosen);
      } else if (event.key === "Escape") {
        if (open) {
          event.preventDefault();
          close();
        } else {
          input.blur();
        }
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        // Enter runs the query, unless the arrows have just chosen something.
        if (open && moved) return take(chosen);
        close();
        input.form.requestSubmit();
      }
    });
  };

  // ---- the histogram -------------------------------------------------------------------------------------------

  const histogram = () => {
    const section = $("#histogram");
    const svg = section && $("svg", section);
    if (!svg) return;
    const hits = all(".hit", svg);
    const form = $("form.range", section);
    let start = -1;
    let brush = null;

    const at = (event) => {
      const box = svg.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      return Math.max(0, Math.min(hits.length - 1, Math.floor(share * hits.length)));
    };
    svg.addEventListener("dragstart", (event) => event.preventDefault());
    svg.addEventListener("pointerdown", (event) => {
      if (event.button === 0) start = at(event);
    });
    const forget = () => {
      start = -1;
      brush?.remove();
      brush = null;
    };
    svg.addEventListener("pointermove", (event) => {
      if (start < 0) return;
      // Let go outside, where nobody told.
      if (!(event.buttons & 1)) return forget();
      const now = at(event);
      if (now === start && !brush) return;
      if (!brush) {
        brush = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        brush.setAttribute("class", "brush");
        brush.setAttribute("y", "0");
        brush.setAttribute("height", "100");
        svg.append(brush);
        svg.setPointerCapture(event.pointerId);
      }
      brush.setAttribute("x", String(Math.min(start, now) * 10));
      brush.setAttribute("width", String((Math.abs(now - start) + 1) * 10));
    });
    const end = (event) => {
      const from = start;
      start = -1;
      if (!brush) return;
      brush.remove();
      brush = null;
      const to = at(event);
      go(Math.min(from, to), Math.max(from, to));
    };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", forget);
    svg.addEventListener("click", (event) => event.detail && svg.hasPointerCapture?.(event.pointerId) && event.preventDefault(), true);

    const go = (first, last) => {
      form.elements.from.value = hits[first].dataset.from;
      form.elements.to.value = hits[last].dataset.to;
      form.requestSubmit();
    };

    // With keys: arrows move over the bars, Shift widens the range, Enter shows it.
    const bars = all("a", svg);
    let anchor = -1;
    svg.addEventListener("keydown", (event) => {
      const index = bars.indexOf(event.target.closest("a"));
      if (index < 0) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        event.preventDefault();
        if (event.shiftKey && anchor < 0) anchor = index;
        if (!event.shiftKey) anchor = -1;
        const next = Math.max(0, Math.min(bars.length - 1, index + step));
        bars[next].focus();
        all(".brush", svg).forEach((old) => old.remove());
        if (anchor >= 0) {
          const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
          rect.setAttribute("class", "brush");
          rect.setAttribute("y", "0");
          rect.setAttribute("height", "100");
          rect.setAttribute("x", String(Math.min(anchor, next) * 10));
          rect.setAttribute("width", String((Math.abs(anchor - next) + 1) * 10));
          svg.append(rect);
        }
      } else if (event.key === "Enter" && anchor >= 0) {
        event.preventDefault();
        go(Math.min(anchor, index), Math.max(anchor, index));
      }
    });
  };

  // ---- the table -----------------------------------------------------------------------------------------------

  const boxes = () => all('#results tbody input[name="name"]');

  const selection = () => {
    const every = $("#all");
    const told = $("#selected");
    const matching = $('#results input[name="matching"]')?.checked;
    const count = boxes().filter((box) => box.checked).length;
    if (told) told.textContent = count ? `${count} selected` : "Select findings";
    for (const button of all('#results .toolbar button[name="action"]')) button.disabled = !matching && count === 0;
    if (every) {
      every.hidden = false;
      every.checked = count > 0 && count === boxes().length;
      every.indeterminate = count > 0 && !every.checked;
    }
  };

  // On a narrow screen they would fill it before anything that was found.
  const facets = () => {
    if (matchMedia("(max-width: 56rem)").matches) all("details[data-facet]").forEach((facet) => (facet.open = false));
  };

  const table = () => {
    const results = $("#results");
    if (!results) return;
    selection();
    results.addEventListener("change", (event) => {
      if (event.target.id === "all") boxes().forEach((box) => (box.checked = event.target.checked));
      selection();
    });
    $("#columns-link")?.addEventListener("click", () => ($("#columns").open = true));
    results.addEventListener("click", (event) => {
      if (event.target.id === "columns-link") $("#columns").open = true;
    });
  };

  const rows = () => all("#results tbody tr[data-name]");
  const move = (step) => {
    const list = rows();
    if (!list.length) return;
    const now = list.findIndex((row) => row.classList.contains("current"));
    const next = now < 0 ? (step > 0 ? 0 : list.length - 1) : Math.max(0, Math.min(list.length - 1, now + step));
    list[now]?.classList.remove("current");
    list[next].classList.add("current");
    const link = $(".category a", list[next]);
    link.focus({ preventScroll: true });
    list[next].scrollIntoView({ block: "nearest" });
  };

  // ---- keys ----------------------------------------------------------------------------------------------------

  const keys = () => {
    let prefix = 0;
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
      if (event.ctrlKey || event.metaKey || event.altKey || typing || event.defaultPrevented) return;
      if (prefix && Date.now() - prefix < 1500) {
        prefix = 0;
        const page = { f: "/findings", t: "/index", c: "/coverage" }[event.key];
        if (page) location.href = page;
        return;
      }
      switch (event.key) {
        case "g":
          prefix = Date.now();
          break;
        case "j":
          move(1);
          break;
        case "k":
          move(-1);
          break;
        case "x": {
          const box = $('#results tr.current input[name="name"]');
          if (box) {
            box.checked = !box.checked;
            selection();
          }
          break;
        }
        case "/": {
          const field = $("#q") ?? $("#search");
          if (field) {
            event.preventDefault();
            field.focus();
            field.select();
          }
          break;
        }
        case "?":
          $("#keys")?.showModal();
          break;
        default:
      }
    });
  };

  // ---- new findings without reload -----------------------------------------------------------------------------

  const POLL_MS = 3000;

  const live = () => {
    const page = $("#findings");
    if (!page?.dataset.live) return;
    let mark = page.dataset.mark;
    let away = false;

    // Shows what there is now; the number of new findings. Fails when the server does not give it.
    const renew = async () => {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!response.ok || response.redirected) throw new Error(`the page was answered with ${response.status}`);
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const known = new Set(rows().map((row) => row.dataset.name));
      const checked = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
      const current = $("#results tr.current")?.dataset.name;
      const focused = document.activeElement;
      const focus = focused?.closest("tr[data-name]") && {
        name: focused.closest("tr").dataset.name,
        box: focused.matches("input"),
      };
      const open = new Map(all("details[data-facet]").map((facet) => [facet.dataset.facet, facet.open]));

      // The table, the counts and the bars; not the query, which may be under someone's hands.
      const swap = (selector, guard) => {
        const [old, now] = [$(selector), $(selector, fresh)];
        if (!old || !now || (guard && old.contains(focused))) return false;
        old.replaceWith(document.importNode(now, true));
        return true;
      };
      swap("#bulk > .scroll");
      swap("#bulk > .empty");
      if (!$("#bulk > .scroll") !== !$("#bulk > .scroll", fresh)) swap("#bulk");
      // The next page begins after the last row of this one. There may be one only now.
      const pager = $("#bulk > .pager");
      const paging = pager?.contains(focused);
      pager?.remove();
      const next = $("#bulk > .pager", fresh);
      if (next) $("#bulk").append(document.importNode(next, true));
      if (paging) $("#bulk > .pager a")?.focus();
      swap("#total");
      // Who chose all that match chose as many as were told then.
      if (!$("#matching input")?.checked) {
        swap("#as-of");
        swap("#matching");
      }
      swap("#facets", true);
      if (swap("#histogram", true)) histogram();
      swap(".top .watch", true);
      for (const [facet, wasOpen] of open) {
        const details = $(`details[data-facet="${CSS.escape(facet)}"]`);
        if (details) details.open = wasOpen;
      }
      for (const box of boxes()) box.checked = checked.has(box.value);
      let added = 0;
      for (const row of rows()) {
        if (!known.has(row.dataset.name)) {
          row.classList.add("fresh");
          added += 1;
        }
        if (row.dataset.name === current) row.classList.add("current");
        if (focus && row.dataset.name === focus.name) $(focus.box ? "input" : ".category a", row)?.focus();
      }
      selection();
      return added;
    };

    const poll = async () => {
      if (!document.hidden) {
        try {
          const response = await fetch(page.dataset.live);
          if (response.redirected) return location.reload();
          const now = await response.json();
          let added = 0;
          if (now.mark !== mark) {
            added = await renew();
            // Not before: what could not be shown is asked for again.
            mark = now.mark;
          }
          if (added) announce(`${added} new finding${added === 1 ? "" : "s"}`);
          else if (away) announce("The server answers again");
          away = false;
        } catch {
          if (!away) announce("The server does not answer; this page may be out of date");
          away = true;
        }
      }
      setTimeout(poll, POLL_MS);
    };
    setTimeout(poll, POLL_MS);
  };

  // The way back to the table as it was.
  const back = () => {
    const link = $("#back");
    if (location.pathname === "/findings") sessionStorage.setItem("findings", location.search);
    if (link) link.href = "/findings" + (sessionStorage.getItem("findings") ?? "");
  };

  copyButtons();
  editor();
  histogram();
  facets();
  table();
  keys();
  live();
  back();
})();
