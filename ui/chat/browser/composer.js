// The question box: keys, focus, editing a question.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});
  const { make } = page;

  const composer = () => document.querySelector(".ty-composer textarea");
  const stopButton = () => document.querySelector(".ty-composer .stop-button");

  const setText = (text) => {
    const area = composer();
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
  };
  page.focusComposer = () => composer()?.focus({ preventScroll: true });

  page.showEditing = (text) => {
    let note = document.getElementById("ty-editing");
    if (!note) {
      note = make("div", { id: "ty-editing", role: "status" }, "Editing the question. Sending it starts a branch. ",
        make("button", { type: "button", class: "ty-quiet", onclick: () => page.book.stopEditing() }, "Cancel"));
      document.getElementById("composer-frame")?.prepend(note);
    }
    setText(text);
    page.focusComposer();
  };
  page.hideEditing = () => {
    document.getElementById("ty-editing")?.remove();
    setText("");
  };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const area = composer();
    if (event.key === "Escape") {
      if (document.getElementById("ty-editing")) page.book.stopEditing();
      else if (stopButton()) stopButton().click();
      else if (page.closeDrawers?.()) event.preventDefault();
    } else if (event.key === "ArrowUp" && event.target === area && area.value === "") {
      const question = page.book?.lastQuestion();
      if (question) {
        event.preventDefault();
        page.book.edit(question.id);
      }
    }
  });

  // A question that is sent before the server has drawn its conversation waits: until then the side panel shows the system
  // prompt of the one before, and would send it.
  const waitUntilOpened = (event) => {
    if (!page.book?.isOpening) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    page.book.opening.then(() => setTimeout(() => document.querySelector(".ty-composer .submit-button")?.click()));
  };
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === composer()) waitUntilOpened(event);
  }, true);
  addEventListener("click", (event) => {
    if (event.target.closest?.(".ty-composer .submit-button")) waitUntilOpened(event);
  }, true);

  // Gradio replaces the stop button by the send button, and focus would be lost with it.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".ty-composer .stop-button, .ty-composer .submit-button")) page.focusComposer();
  });

  // Gradio's buttons are pictures without a name.
  const nameButtons = () => {
    for (const [kind, name] of [["submit", "Send"], ["stop", "Stop"]]) {
      const button = document.querySelector(`.ty-composer .${kind}-button`);
      button?.setAttribute("aria-label", name);
      button?.setAttribute("title", name);
    }
  };
  page.whenThere(".ty-composer", (box) => {
    nameButtons();
    new MutationObserver(nameButtons).observe(box, { subtree: true, childList: true });
  });

  page.whenThere('#chat [role="log"]', () => page.watchMessages(document.getElementById("chat")));
})();
