// What all pages share: elements, drawers, dialogs, short messages.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});

  // Gradio makes the page dark once it has started: until then it would be a white flash. The form to sign in has no Gradio.
  const theme = new URLSearchParams(location.search).get("__theme");
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", isDark);

  // An element with attributes, listeners (`onclick`) and children. Text is text: no HTML is parsed.
  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  page.make = make;

  const icon = (name, label, onclick) =>
    make("button", { type: "button", class: "ty-icon", title: label, "aria-label": label, onclick }, make("i", { class: `ty-i ty-i-${name}` }));
  page.icon = icon;

  // Asks for a text in a dialog; null when it was cancelled.
  page.askText = (title, text, action) =>
    new Promise((resolve) => {
      const area = make("textarea", { rows: 10, dir: "auto", "aria-label": title });
      area.value = text;
      const close = (result) => {
        dialog.remove();
        resolve(result);
      };
      const dialog = make("dialog", { class: "ty-dialog", "aria-label": title },
        make("h2", {}, title), area,
        make("div", { class: "ty-dialog-foot" },
          make("button", { type: "button", class: "ty-quiet", onclick: () => close(null) }, "Cancel"),
          make("button", { type: "button", class: "ty-button ty-primary", onclick: () => close(area.value) }, action)));
      dialog.addEventListener("cancel", () => close(null));
      area.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) close(area.value);
      });
      document.body.append(dialog);
      dialog.showModal();
      area.focus();
    });

  const toasts = () => document.getElementById("ty-toasts")
    ?? document.body.appendChild(make("div", { id: "ty-toasts", role: "status", "aria-live": "polite" }));

  // Stays until the page is left.
  page.notice = (text) => toasts().replaceChildren(make("div", { class: "ty-toast" }, make("span", {}, text)));

  page.toast = (text, action, onaction) => {
    const toast = make("div", { class: "ty-toast" }, make("span", {}, text));
    if (action) {
      toast.append(make("button", { type: "button", class: "ty-quiet", onclick: () => { toast.remove(); onaction(); } }, action));
    }
    toasts().replaceChildren(toast);
    setTimeout(() => toast.remove(), 8000);
  };

  // For people who listen to the page.
  page.say = (text) => {
    const place = document.getElementById("ty-said")
      ?? document.body.appendChild(make("div", { id: "ty-said", class: "ty-hidden", role: "status" }));
    place.textContent = text;
  };

  page.whenThere = (selector, start) => {
    const found = document.querySelector(selector);
    if (found) return start(found);
    new MutationObserver((_, observer) => {
      const appeared = document.querySelector(selector);
      if (appeared) {
        observer.disconnect();
        start(appeared);
      }
    }).observe(document.documentElement, { subtree: true, childList: true });
  };
  // Drawers: Gradio's sidebars, which are beside the page where it is wide and above it where it is narrow.

  let isChosen = false; // a person has opened or closed one
  const isNarrow = () => matchMedia("(max-width: 860px)").matches;
  const toggle = (drawer) => drawer.querySelector(".toggle-button").click();

  // Closes what lies above the page; true if something did.
  page.closeDrawers = () => {
    const above = [...document.querySelectorAll(".sidebar.open")].filter((drawer) => isNarrow() || drawer.matches(".right"));
    for (const drawer of above) {
      toggle(drawer);
      document.querySelector(`[data-drawer="${drawer.id}"]`)?.focus();
    }
    return above.length > 0;
  };

  const nameOpeners = () => {
    for (const opener of document.querySelectorAll("[data-drawer]")) {
      const isOpen = document.getElementById(opener.dataset.drawer)?.classList.contains("open") ?? false;
      opener.setAttribute("aria-expanded", String(isOpen));
    }
  };

  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[data-drawer]");
    const drawer = opener && document.getElementById(opener.dataset.drawer);
    isChosen ||= Boolean(opener);
    if (drawer) toggle(drawer);
    else if (isNarrow() && !event.target.closest?.(".sidebar, dialog, #ty-toasts")) page.closeDrawers();
    setTimeout(nameOpeners, 50);
  });

  page.whenThere(".sidebar:not(.right)", (drawer) => {
    // Gradio opens and closes it only once it is mounted, and does not say when that is: until then a click does nothing.
    let seen = 0;
    const open = (tries) => {
      nameOpeners();
      if (isNarrow() || isChosen || seen === 2 || tries === 0) return;
      if (drawer.classList.contains("open")) seen += 1;
      else toggle(drawer);
      setTimeout(open, 100, tries - 1);
    };
    setTimeout(open, 100, 50);
  });
})();
