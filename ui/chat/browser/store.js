// Conversations in the browser: one IndexedDB per person, all of it in memory too, so that lists and searches are instant.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});

  const promised = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  const kept = (transaction) =>
    new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });

  class ConversationStore {
    // `owner` keeps people who share a browser apart; without a login it is "".
    constructor(owner) {
      this.name = owner ? `tuneyard-${owner}` : "tuneyard";
      this.conversations = new Map();
      this.deleted = new Map();
      this.listeners = [];
      this.problem = "";
      this.saving = null; // until the browser has kept the last change
    }

    async load() {
      try {
        const opening = indexedDB.open(this.name, 1);
        opening.onupgradeneeded = () => opening.result.createObjectStore("conversations", { keyPath: "id" });
        this.database = await promised(opening);
        for (const found of await promised(this.table("readonly").getAll())) this.conversations.set(found.id, found);
        this.watchOtherTabs();
      } catch (error) {
        this.problem = "This browser lets the page keep nothing: conversations last until the tab is closed.";
      }
      this.changed();
    }

    table(mode) {
      return this.database.transaction("conversations", mode).objectStore("conversations");
    }

    watchOtherTabs() {
      this.channel = new BroadcastChannel(this.name);
      this.channel.onmessage = async ({ data: ids }) => {
        const table = this.table("readonly");
        const all = await Promise.all(ids.map((id) => promised(table.get(id))));
        all.forEach((found, place) => (found ? this.conversations.set(found.id, found) : this.conversations.delete(ids[place])));
        this.changed();
      };
    }

    get(id) {
      return this.conversations.get(id);
    }

    // Newest first; `query` is searched in titles and messages.
    list(query = "") {
      const words = query.toLowerCase().split(/\s+/).filter(Boolean);
      const text = (found) =>
        [found.title, ...(found.nodes ?? []).map((node) => node.text ?? "")].join("\n").toLowerCase();
      return [...this.conversations.values()]
        .filter((found) => words.length === 0 || words.every((word) => text(found).includes(word)))
        .sort((a, b) => (b.updated_ms ?? 0) - (a.updated_ms ?? 0));
    }

    async put(conversation) {
      const [put] = await this.putAll([conversation]);
      return put;
    }

    // All at once: one by one, hundreds of an imported file would draw the list hundreds of times.
    async putAll(conversations) {
      const all = conversations.map((conversation) => {
        const before = this.conversations.get(conversation.id);
        // A title by the person stays, whatever an answer under way says.
        return before?.is_titled && !conversation.is_titled ? { ...conversation, title: before.title, is_titled: true } : conversation;
      });
      for (const conversation of all) this.conversations.set(conversation.id, conversation);
      this.changed();
      if (this.database) {
        const table = this.table("readwrite");
        this.saving = kept(table.transaction);
        for (const conversation of all) table.put(conversation);
        await this.saving.catch((error) => {
          this.problem = `This browser could not keep the conversation: ${error.message}`;
          this.changed();
        });
        this.channel.postMessage(all.map(({ id }) => id));
      }
      return all;
    }

    async remove(id) {
      this.deleted.set(id, this.conversations.get(id));
      this.conversations.delete(id);
      this.changed();
      if (this.database) {
        await promised(this.table("readwrite").delete(id));
        this.channel.postMessage([id]);
      }
    }

    async restore(id) {
      const conversation = this.deleted.get(id);
      this.deleted.delete(id);
      if (conversation) await this.put(conversation);
    }

    changed() {
      for (const listener of this.listeners) listener();
    }
  }

  page.ConversationStore = ConversationStore;
})();
