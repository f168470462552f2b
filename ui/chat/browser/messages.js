// Messages of the conversation: what happens on a click, how they are read aloud, and where the view stays.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});
  const JOINER = /\u2060/g; // see ui/chat/model_text.py
  const END_PX = 40;

  // Clicks -------------------------------------------------------------------------------------------------------

  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without HTTPS, other machines' pages have no clipboard.
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("ty-done");
    page.say("Copied.");
    setTimeout(() => button.classList.remove("ty-done"), 1500);
  };

  const lineageOf = ({ model_id, facts = {} }) => {
    const { version, run, dataset, weights } = facts;
    return JSON.stringify({ model: model_id, version, run, dataset, weights }, null, 2);
  };

  const acts = {
    copy: (node, button) => copy(node.text, button),
    lineage: (node, button) => copy(lineageOf(node), button),
    edit: (node) => page.book.edit(node.id),
    retry: (node) => page.book.act({ act: "retry", node: node.id }),
    show: (node) => page.book.act({ act: "show", node: node.id }),
    correct: async (node) => {
      const text = await page.askText("Edit the answer", node.text ?? "", "Save as another answer");
      if (text !== null) page.book.act({ act: "correct", node: node.id, text });
    },
    result: async (node, button) => {
      const call = (node.tool_calls ?? []).find((made) => made.call_id === button.dataset.call);
      const text = await page.askText(`Result of ${call?.name ?? "the tool"}`, "", "Send to the model");
      if (text !== null) page.book.act({ act: "result", node: node.id, call: button.dataset.call, text });
    },
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-act]");
    const node = button && page.book?.node(button.dataset.node);
    if (node) acts[button.dataset.act]?.(node, button);
  });

  // Text and names -----------------------------------------------------------------------------------------------

  const cleanText = (root) => {
    if (!root.textContent?.includes("\u2060")) return;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    if (root.nodeType === Node.TEXT_NODE) root.data = root.data.replace(JOINER, "");
    while (walker.nextNode()) {
      const text = walker.currentNode;
      if (text.data.includes("\u2060")) text.data = text.data.replace(JOINER, "");
    }
  };

  const each = (root, selector, change) => {
    if (root.matches?.(selector)) change(root);
    root.querySelectorAll?.(selector).forEach(change);
  };

  // Only what differs is set: each change is observed again.
  const set = (element, name, value) => {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };

  const nameMessage = (message) => {
    if (message.hasAttribute("aria-label")) set(message, "aria-label", null); // it repeats the whole text
    if (message.hasAttribute("dir")) set(message, "dir", null);
  };
  const nameTitle = (title) => set(title, "aria-expanded", String(title.classList.contains("expanded")));

  const nameElements = (root) => {
    each(root, "[data-testid]", nameMessage);
    // Not of what lies inside lists, quotes and tables: their direction is that of their first text without a `dir` of its own.
    each(root, ".prose :is(p, ul, ol, h1, h2, h3, h4, h5, h6, blockquote, table):not(:is(ul, ol, blockquote, table) *)", (block) => set(block, "dir", "auto"));
    each(root, ".thought-group > .title", nameTitle);
    each(root, ".examples", (examples) => set(examples, "role", "group")); // a list has no buttons as items
    each(root, ".copy_code_button", (button) => set(button, "aria-label", "Copy code"));
    each(root, ".prose :is(pre, table)", (scrolled) => {
      set(scrolled, "tabindex", "0");
      set(scrolled, "role", scrolled.tagName === "PRE" ? "region" : "table");
      set(scrolled, "aria-label", scrolled.tagName === "PRE" ? "Code" : "Table");
    });
  };

  // A step's title is a button to the ear: it opens with Space too.
  document.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target.matches?.(".thought-group > .title")) {
      event.preventDefault();
      event.target.click();
    }
  });

  // The end stays in sight while an answer grows, until the person scrolls up ----------------------------------

  let scroller = null;
  let isStuck = true;
  let isTouched = false;
  let lastTop = 0;
  let lastHeight = 0;
  let questions = 0;
  const isAtEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight <= END_PX;
  const follow = () => {
    if (scroller && isStuck && !isTouched) scroller.scrollTop = scroller.scrollHeight;
  };
  page.stickToEnd = () => {
    isStuck = true;
    follow();
  };

  const watchScrolling = () => {
    scroller.addEventListener("scroll", () => {
      const isShrunk = scroller.scrollHeight < lastHeight;
      if (scroller.scrollTop < lastTop && !isShrunk) isStuck = false;
      else if (isAtEnd()) isStuck = true;
      lastTop = scroller.scrollTop;
      lastHeight = scroller.scrollHeight;
    }, { passive: true });
    // Before the first pixel is scrolled: an answer that grows meanwhile must not pull the view back.
    const release = () => (isStuck = false);
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && release(), { passive: true });
    let touchedY = 0;
    const touch = (event) => {
      isTouched = true;
      touchedY = event.touches[0].clientY;
    };
    scroller.addEventListener("touchstart", touch, { passive: true });
    scroller.addEventListener("touchmove", (event) => event.touches[0].clientY > touchedY && release(), { passive: true });
    for (const end of ["touchend", "touchcancel"]) scroller.addEventListener(end, () => (isTouched = false), { passive: true });
    scroller.addEventListener("keydown", (event) => ["PageUp", "ArrowUp", "Home"].includes(event.key) && release());
    scroller.tabIndex = 0;
    new ResizeObserver(follow).observe(scroller);
  };

  const changed = (records) => {
    for (const { type, target, addedNodes } of records) {
      if (type === "attributes") {
        if (target.matches("[data-testid]")) nameMessage(target);
        else if (target.matches(".thought-group > .title")) nameTitle(target);
      }
      else if (type === "characterData") cleanText(target);
      else for (const node of addedNodes) {
        cleanText(node);
        nameElements(node.nodeType === Node.ELEMENT_NODE ? node : target);
      }
    }
    const now = scroller.querySelectorAll(".user-row").length;
    if (now > questions) isStuck = true;
    questions = now;
    follow();
  };

  page.watchMessages = (chat) => {
    scroller = chat.querySelector('[role="log"]');
    watchScrolling();
    nameElements(chat);
    cleanText(chat);
    new MutationObserver(changed).observe(chat, {
      subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-label", "class"],
    });
  };
})();
