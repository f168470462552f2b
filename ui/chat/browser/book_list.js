// The list of conversations in the sidebar: new, search, rename, export, delete, import.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});

  const { make, icon } = page;

  const owner = () => document.querySelector('meta[name="tuneyard-owner"]')?.content;
  const dayOf = (ms) => {
    const days = Math.floor((new Date().setHours(24, 0, 0, 0) - ms) / 86_400_000);
    if (days <= 0) return "Today";
    if (days === 1) return "Yesterday";
    return days < 7 ? "Last seven days" : "Earlier";
  };
  const fileName = (title) => `${title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) || "conversation"}.jsonl`;

  class ConversationList {
    constructor(element, book) {
      this.book = book;
      this.renaming = null;
      this.shown = null; // what the list was drawn from
      this.search = make("input", { type: "search", placeholder: "Search conversations", "aria-label": "Search conversations", oninput: () => this.draw() });
      this.items = make("div", { class: "ty-list" });
      this.problem = make("p", { class: "ty-problem", role: "status" });
      const chosen = make("input", { type: "file", accept: ".jsonl,.json,.txt", hidden: "", "aria-label": "File of conversations" });
      chosen.addEventListener("change", async () => {
        for (const file of chosen.files) await book.upload(file);
        chosen.value = "";
      });
      element.replaceChildren(
        make("button", { type: "button", class: "ty-button ty-new", onclick: () => book.create() }, make("i", { class: "ty-i ty-i-new" }), "New chat"),
        this.search,
        make("nav", { class: "ty-list-frame", "aria-label": "Conversations", tabindex: "0" }, this.items),
        this.problem,
        make("div", { class: "ty-book-foot" },
          make("button", { type: "button", class: "ty-quiet", onclick: () => chosen.click() }, "Import"),
          make("button", { type: "button", class: "ty-quiet", onclick: () => book.download(book.store.list(), "conversations.jsonl") }, "Export all"),
          chosen, ...this.signOut()));
    }

    // Whoever signed in can sign out again.
    signOut() {
      if (!owner()) return [];
      return [make("form", { method: "post", action: "sign-out" }, make("button", { class: "ty-quiet" }, "Sign out"))];
    }

    draw() {
      if (this.renaming) return;
      const found = this.book.store.list(this.search.value);
      const groups = Map.groupBy ? Map.groupBy(found, (item) => dayOf(item.updated_ms)) : new Map([["", found]]);
      this.problem.textContent = this.book.store.problem;
      // An answer that streams changes no line. A new element would lose the focus, and a click that is under way.
      const shown = JSON.stringify([this.search.value, this.book.current.id, [...groups].map(([day, items]) => [day, items.map(({ id, title }) => [id, title])])]);
      if (shown === this.shown) return;
      this.shown = shown;
      this.items.replaceChildren(
        ...[...groups].map(([day, items]) =>
          make("section", { "aria-label": day }, make("h2", {}, day), make("ul", {}, ...items.map((item) => this.item(item))))));
      if (!found.length) {
        this.items.append(make("p", { class: "ty-none" }, this.search.value ? "No conversation has these words." : "Conversations stay in this browser."));
      }
    }

    item(item) {
      const title = item.title || "Untitled";
      const isCurrent = item.id === this.book.current.id;
      const open = (event) => {
        event.preventDefault();
        this.book.show(item.id);
      };
      return make("li", { class: isCurrent ? "ty-current" : null },
        make("a", { href: `#c/${item.id}`, title, dir: "auto", "aria-current": isCurrent ? "page" : null, onclick: open }, title),
        make("span", { class: "ty-item-tools" },
          icon("edit", `Rename ${title}`, (event) => this.rename(item, event.target.closest("li"))),
          icon("download", `Export ${title}`, () => this.book.download([this.book.store.get(item.id)], fileName(title))),
          icon("delete", `Delete ${title}`, () => this.book.remove(item.id))));
    }

    rename(item, row) {
      const input = make("input", { class: "ty-rename", "aria-label": "New title" });
      input.value = item.title;
      this.renaming = item.id;
      this.shown = null;
      const end = async (isKept) => {
        if (!this.renaming) return;
        this.renaming = null;
        if (isKept) await this.book.rename(item.id, input.value);
        this.draw();
      };
      input.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === "Escape") {
          event.preventDefault();
          event.stopPropagation();
          end(event.key === "Enter");
        }
      });
      input.addEventListener("blur", () => end(true));
      row.replaceChildren(input);
      input.select();
    }
  }

  page.ConversationList = ConversationList;
})();
