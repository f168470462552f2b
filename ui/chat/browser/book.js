// The list of conversations, and the one that is open. Its value goes to the server with each event:
// {conversation, editing}, where `editing` is the question that the next one replaces, or null.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});

  const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const emptyConversation = () => ({ id: newId(), created_ms: Date.now(), updated_ms: Date.now(), nodes: [] });
  const hashOf = (id) => `#c/${id}`;
  const idInHash = () => (location.hash.startsWith("#c/") ? location.hash.slice(3) : "");

  class Book {
    constructor(element, props, server, triggers) {
      Object.assign(this, { element, props, server, triggers });
      this.store = new page.ConversationStore(document.querySelector('meta[name="tuneyard-owner"]')?.content ?? "");
      this.current = emptyConversation();
      this.editing = null;
      this.sent = null; // what props.value was set to here, to tell it from what the server sends
      this.list = new page.ConversationList(element, this);
      this.store.listeners.push(() => this.list.draw());
      addEventListener("popstate", () => this.route());
    }

    async start() {
      this.publish();
      await this.store.load();
      const id = idInHash();
      if (this.store.get(id)) this.open(id);
      else this.list.draw();
    }

    publish() {
      this.sent = { conversation: this.current, editing: this.editing };
      this.props.value = this.sent;
    }

    // The server sent a conversation: it is kept, and shown if it is the open one.
    async receive() {
      const value = this.props.value;
      // Gradio empties the value when an update leaves it out.
      if (!value?.conversation) return this.publish();
      if (value === this.sent) return;
      let conversation = value.conversation;
      conversation.nodes ??= [];
      const isCurrent = conversation.id === this.current.id;
      if (isCurrent) {
        this.isOpened?.();
        this.current = conversation;
        if (value.is_asked) this.stopEditing();
      }
      this.publish();
      if (conversation.nodes.length && !this.store.deleted.has(conversation.id)) {
        const kept = await this.store.put(conversation);
        if (isCurrent && this.current === conversation) this.current = kept;
        // Another one may have been opened since, and its address is not ours to change.
        const isStillCurrent = this.current.id === conversation.id;
        if (isStillCurrent && idInHash() !== conversation.id) history.replaceState(null, "", hashOf(conversation.id));
        this.list.draw();
      }
    }

    route() {
      const id = idInHash();
      if (id === this.current.id) return;
      if (this.store.get(id)) this.open(id);
      else this.openNew();
    }

    show(id) {
      if (idInHash() !== id) history.pushState(null, "", hashOf(id));
      this.open(id);
    }

    open(id) {
      this.current = structuredClone(this.store.get(id));
      this.opened();
    }

    create() {
      if (location.hash) history.pushState(null, "", location.pathname + location.search);
      this.openNew();
      page.focusComposer?.();
    }

    openNew() {
      this.current = emptyConversation();
      this.opened();
    }

    opened() {
      this.isOpening = true;
      this.opening = new Promise((resolve) => {
        const opened = (this.isOpened = () => {
          if (this.isOpened === opened) this.isOpening = false;
          resolve();
        });
        setTimeout(opened, 5000);
      });
      this.stopEditing();
      this.publish();
      page.closeDrawers?.();
      page.stickToEnd?.();
      this.triggers.open();
      this.list.draw();
    }

    // The inputs of an event, once the server has drawn the conversation that they are about: answers of the server
    // may overtake each other.
    async settled(inputs) {
      await this.opening;
      return inputs.map((input) => (input && typeof input === "object" && "conversation" in input ? this.sent : input));
    }

    node(id) {
      return (this.current.nodes ?? []).find((node) => node.id === id);
    }

    lastQuestion() {
      return (this.current.nodes ?? []).findLast((node) => node.role === "user");
    }

    edit(id) {
      this.editing = id;
      this.publish();
      page.showEditing?.(this.node(id)?.text ?? "");
    }

    stopEditing() {
      if (this.editing === null) return;
      this.editing = null;
      this.publish();
      page.hideEditing?.();
    }

    // What a person did to a message: the server works it out and sends the conversation back.
    act(what) {
      this.triggers.act(what);
    }

    async rename(id, title) {
      const found = this.store.get(id);
      if (!found || !title.trim()) return;
      const renamed = { ...found, title: title.trim(), is_titled: true };
      if (id === this.current.id) {
        this.current = { ...this.current, title: renamed.title, is_titled: true };
        this.publish();
      }
      await this.store.put(renamed);
    }

    async remove(id) {
      const title = this.store.get(id)?.title ?? "";
      this.act({ act: "stop", conversation: id });
      await this.store.remove(id);
      if (id === this.current.id) this.create();
      page.toast(`Deleted “${title}”.`, "Undo", () => this.store.restore(id));
    }

    async download(conversations, name) {
      const { rows, problem } = await this.server.export_rows(conversations);
      if (problem) return page.toast(problem);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([rows], { type: "application/jsonl" }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    async upload(file) {
      const { conversations, problem } = await this.server.import_rows(await file.text());
      if (problem) return page.toast(problem);
      await this.store.putAll(conversations);
      page.toast(`${conversations.length} conversation${conversations.length === 1 ? "" : "s"} imported.`);
    }
  }

  page.startBook = (element, props, watch, server, triggers) => {
    const book = new Book(element, props, server, triggers);
    page.book = book;
    watch("value", () => book.receive());
    book.start();
  };
})();
