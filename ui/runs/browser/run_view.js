// Choosing a run or more rows, and the values under the pointer. The body of a function of Gradio's gr.HTML, which gives element,
// trigger and watch.
let focused = null;

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run], [data-rows]");
  if (button) trigger("click", { ...button.dataset });
});

// An update replaces the buttons: the one that had the focus gets it back.
const buttons = () => element.querySelectorAll("[data-run], [data-rows]");
const nameOf = (button) => button?.dataset.run ?? (button ? "rows" : null);
element.addEventListener("focusin", (event) => { focused = nameOf(event.target.closest("[data-run], [data-rows]")); });
element.addEventListener("focusout", (event) => { if (event.relatedTarget) focused = null; });
watch("value", () => {
  if (focused === null || document.activeElement !== document.body) return;
  for (const button of buttons()) if (nameOf(button) === focused) button.focus({ preventScroll: true });
});

const nearest = (line, step) => {
  let best = 0;
  for (let i = 1; i < line.steps.length; i++) if (Math.abs(line.steps[i] - step) < Math.abs(line.steps[best] - step)) best = i;
  return best;
};
const show = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toString());

element.addEventListener("pointermove", (event) => {
  const figure = event.target.closest("[data-chart]");
  const drawing = figure?.querySelector("svg");
  if (!drawing) return;
  const chart = (figure.chart ??= JSON.parse(figure.dataset.chart));
  const box = drawing.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
  const share = Math.min(1, Math.max(0, (x - chart.left) / (chart.right - chart.left)));
  const step = Math.round(chart.first + share * (chart.last - chart.first));
  const cursor = figure.querySelector(".run-cursor");
  const place = chart.left + ((step - chart.first) / Math.max(1, chart.last - chart.first)) * (chart.right - chart.left);
  cursor.setAttribute("x1", place);
  cursor.setAttribute("x2", place);
  const texts = chart.lines.map((line) => `${line.label} ${show(line.values[nearest(line, step)])}`);
  figure.querySelector(".run-values").textContent = `Step ${step}: ${texts.join(" · ")}`;
});
element.addEventListener("pointerleave", () => {
  for (const values of element.querySelectorAll(".run-values")) values.textContent = "";
  for (const cursor of element.querySelectorAll(".run-cursor")) { cursor.setAttribute("x1", -9); cursor.setAttribute("x2", -9); }
});
