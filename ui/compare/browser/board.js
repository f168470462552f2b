// The answers' buttons, and the steps that a person has opened. The body of a function of Gradio's gr.HTML, which gives
// element, trigger and watch.
const openSteps = new Set();

element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-compare]");
  if (!button) return;
  const text = button.closest(".cmp-side").querySelector(".cmp-source").textContent;
  if (button.dataset.compare === "copy") {
    await navigator.clipboard.writeText(text);
    tuneyard.say("Copied");
    button.classList.add("ty-done");
    setTimeout(() => button.classList.remove("ty-done"), 1200);
  } else if (button.dataset.compare === "correct") {
    const corrected = await tuneyard.askText(button.title, text, "Save as a training row");
    if (corrected !== null) trigger("click", { act: "correct", side: Number(button.dataset.side), text: corrected });
  }
});

// An update of the answers closes what a person has opened: it is opened again. The click counts and not the browser's
// `toggle`, which an update may overtake.
element.addEventListener("click", (event) => {
  const step = event.target.closest("summary")?.parentElement;
  if (step) openSteps[step.open ? "delete" : "add"](step.dataset.keep);
});
watch("value", () => {
  for (const step of element.querySelectorAll("details[data-keep]")) step.open = openSteps.has(step.dataset.keep);
});
