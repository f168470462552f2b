// The Compare page: which comparison the tab shows, keys of the votes, files to save.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});
  const TOKEN = "tuneyard-compare";
  const voteButtons = () =>
    [...document.querySelectorAll("#compare-votes button, #vote-undo")].filter((button) => button.offsetParent && !button.disabled);
  const question = () => document.querySelector("#compare .ty-composer textarea");

  page.compare = {
    token: () => sessionStorage.getItem(TOKEN) ?? "",

    keepToken(token) {
      const before = this.token();
      sessionStorage.setItem(TOKEN, token ?? "");
      if (before && !token) {
        page.toast("A new comparison begins. Votes are kept.", "Back to the last one", () => {
          sessionStorage.setItem(TOKEN, before);
          location.reload();
        });
      }
    },

    markDifferences: (on) => document.body.classList.toggle("cmp-unmarked", !on),

    // In the browser, so that no copy of the votes stays on the page's server.
    saveFile(file) {
      if (!file) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([file.text], { type: "application/jsonl" }));
      link.download = file.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    },
  };

  // Escape in the empty question goes to the votes, arrows go along them, and Escape goes back.
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const buttons = voteButtons();
    const place = buttons.indexOf(target);
    if (key === "Escape" && target === question() && !target.value && buttons.length) {
      buttons[0].focus();
    } else if (key === "Escape" && place >= 0) {
      question()?.focus();
    } else if (place >= 0 && (key === "ArrowLeft" || key === "ArrowRight")) {
      buttons[(place + (key === "ArrowRight" ? 1 : -1) + buttons.length) % buttons.length].focus();
    } else {
      return;
    }
    event.preventDefault();
  });
})();
