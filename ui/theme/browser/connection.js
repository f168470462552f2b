// A lost connection: the page waits for its server and starts anew, with what was typed. Gradio's client does not recover
// by itself: it would wait for ever on a stream that is gone. Conversations are in the browser, so nothing is lost.

(() => {
  "use strict";
  const page = (window.tuneyard ??= {});
  const DRAFT = "tuneyard-draft";
  const RETRY_MS = 1000;
  const LEAVE_MS = 10000;
  let isLeaving = false;
  let isLost = false;
  let leavesAt = 0;
  addEventListener("pagehide", () => (isLeaving = true));
  // Gradio ends its request when a link is followed, some time before the page is hidden.
  addEventListener("beforeunload", () => (leavesAt = Date.now()));

  const box = () => document.querySelector(".ty-composer textarea");

  const startAnew = () => {
    sessionStorage.setItem(DRAFT, JSON.stringify({ path: location.pathname, text: box()?.value ?? "" }));
    location.reload();
  };

  const isReachable = async () => {
    try {
      return (await fetch("favicon.ico", { cache: "no-store" })).ok;
    } catch {
      return false;
    }
  };

  const lost = async () => {
    if (isLost || isLeaving) return;
    isLost = true;
    // A page that is still here after a while was not left: a link may be a download.
    if (Date.now() - leavesAt < LEAVE_MS) await new Promise((resolve) => setTimeout(resolve, LEAVE_MS));
    for (let waits = 0; !(await isReachable()); waits += 1) {
      if (waits === 1) page.notice("The page's server does not answer. Waiting for it; nothing is lost.");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    if (!isLeaving) startAnew();
  };

  // Gradio keeps one request open as long as the page is.
  const plainFetch = window.fetch.bind(window);
  window.fetch = async (resource, options) => {
    const response = await plainFetch(resource, options);
    if (String(resource?.url ?? resource).includes("/gradio_api/heartbeat/") && response.body) {
      response.clone().body.pipeTo(new WritableStream()).then(lost, lost);
    }
    return response;
  };

  page.whenThere(".ty-composer textarea", (area) => {
    const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
    sessionStorage.removeItem(DRAFT);
    if (draft?.text && draft.path === location.pathname) {
      area.value = draft.text;
      area.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });
})();
