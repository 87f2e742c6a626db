"use strict";
// Draws the plots of a report in the colours of the page, and again when these change.
const root = document.documentElement;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const plots = Array.from(document.querySelectorAll(".plot"), (div) => ({
  div, ...JSON.parse(document.getElementById(div.id + "-data").textContent),
}));

// What a run's files say is text. Plotly reads marks of HTML in labels, so these are escaped for it.
function label(facts) {
  const escaped = facts.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
  const [first, ...others] = escaped.split("\n");
  return ["<b>" + first + "</b>", ...others].join("<br>");
}

for (const { data } of plots) {
  for (const trace of data) if (trace.customdata) trace.text = trace.customdata.map(([facts]) => label(facts));
}

// Plotly knows no variables of CSS, so colours named by them are looked up.
function coloured(value, styles) {
  if (typeof value === "string" && value.startsWith("var(")) return styles.getPropertyValue(value.slice(4, -1)).trim();
  if (Array.isArray(value)) return value.map((item) => coloured(item, styles));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, styles)]));
}

// The chosen axis of a plot replaces coordinates, title and the name of a line.
function onAxis(plot) {
  const select = document.getElementById(plot.div.id + "-axis");
  if (!select) return plot;
  const axis = plot.axes[select.value];
  const data = plot.data.map((trace, i) => ({ ...trace, ...axis.traces[i] }));
  const xaxis = { ...plot.layout.xaxis, title: { ...plot.layout.xaxis.title, text: axis.title } };
  return { ...plot, data, layout: { ...plot.layout, xaxis } };
}

function draw(plot) {
  const { data, layout } = onAxis(plot), styles = getComputedStyle(root);
  const config = { displayModeBar: false, responsive: true };
  return Plotly.react(plot.div, coloured(data, styles), coloured(layout, styles), config);
}

function inspect(plot, chosen) {
  const panel = document.getElementById(plot.div.id + "-inspector");
  if (!panel || !chosen) return;
  const [facts, blocks, heights, firsts] = chosen;
  panel.querySelector(".facts").replaceChildren(...facts.split("\n").map((text, i) => {
    const line = document.createElement(i ? "div" : "b");
    line.textContent = text;
    return line;
  }));
  panel.querySelector(".strip").replaceChildren(...blocks.map((block, i) => {
    const bar = document.createElement("i");
    bar.className = "kind-" + block + (firsts.includes(i) && i ? " first" : "");
    bar.style.height = 100 * heights[i] + "%";
    return bar;
  }));
}

function setTheme(theme) {
  root.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  plots.forEach(draw);
}

for (const plot of plots) {
  const select = document.getElementById(plot.div.id + "-axis");
  if (select) select.addEventListener("change", () => draw(plot));
}
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
for (const plot of plots) {
  inspect(plot, plot.chosen);
  for (const event of ["plotly_hover", "plotly_click"]) {
    plot.div.on(event, ({ points }) => inspect(plot, points[0].customdata));
  }
}
for (const box of document.querySelectorAll("details")) {
  box.addEventListener("toggle", () => box.querySelectorAll(".plot").forEach((div) => Plotly.Plots.resize(div)));
}
