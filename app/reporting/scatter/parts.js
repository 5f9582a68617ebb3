// What a chart has around its points. All text is put in as text: names come out of files.

const SVG = "http://www.w3.org/2000/svg";
const MOST_LISTED = 500;
const HELP =
  "Click a point to choose it. Drag to move the chart or, with Box and Lasso, to select. " +
  "The wheel zooms after a click into the chart or with Ctrl, two fingers always; a double click " +
  "goes back. Keys: arrows go along the front, and then along random search and failed evaluations " +
  "where they are shown; Enter chooses, Escape takes a selection away, " +
  "+ and \u2212 zoom, 0 goes back, Shift and arrows move the chart.";

/** An element of HTML with attributes and children, which are elements or texts. */
function makeElement(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The same of SVG. */
function makeSvg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A row of buttons. `actions` are lists of [name, label, function], a list for each group. */
function makeToolbar(actions) {
  const bar = makeElement("div", { class: "tools", role: "toolbar", "aria-label": "Chart" });
  const buttons = {};
  for (const group of actions) {
    const box = makeElement("span", { class: "tool-group" });
    for (const [name, label, act] of group) {
      const button = makeElement("button", { type: "button", "aria-label": label }, name);
      button.addEventListener("click", act);
      buttons[name] = button;
      box.append(button);
    }
    bar.append(box);
  }
  return { bar, buttons };
}

/** Grid, ticks and titles of both axes. `frame` is where the points are, in pixels. */
function drawAxes(payload, frame, scales, spans) {
  const parts = [];
  const { left, right, top, bottom } = frame;
  for (const { value, text } of listTicks(payload.y, spans.y, Math.max(3, (bottom - top) / 60))) {
    const y = scales.y.place(value);
    parts.push(
      makeSvg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
      makeSvg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, text),
    );
  }
  for (const { value, text } of listTicks(payload.x, spans.x, Math.max(2, (right - left) / 72))) {
    const x = scales.x.place(value);
    // A text at the very edge would be cut off.
    const anchor = x > right - 16 ? "end" : "middle";
    parts.push(
      makeSvg("line", { class: "tick", x1: x, x2: x, y1: bottom, y2: bottom + 5 }),
      makeSvg("text", { x, y: bottom + 19, "text-anchor": anchor }, text),
    );
  }
  const middle = (top + bottom) / 2;
  parts.push(
    makeSvg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    makeSvg(
      "text",
      { class: "title", x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" },
      payload.x.label,
    ),
    makeSvg(
      "text",
      {
        class: "title",
        x: 0,
        y: 0,
        "text-anchor": "middle",
        transform: `translate(14,${middle}) rotate(-90)`,
      },
      payload.y.label,
    ),
  );
  return parts;
}

/** What the marks mean, and the scale of the colours. */
function listLegend(payload, dark) {
  const items = payload.groups
    .filter((group) => group.written === undefined)
    .map((group) => {
      const color = group.color[dark ? 1 : 0];
      const look = {
        d: outlineMark(group.shape, Math.min(group.radius, 5)),
        stroke: color,
        "stroke-width": 1.5,
        fill: group.filled ? color : "none",
        opacity: Math.max(group.opacity, 0.6),
      };
      const mark = makeSvg(
        "svg",
        { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" },
        makeSvg("path", look),
      );
      return makeElement("li", {}, mark, group.name);
    });
  if (payload.color) {
    const bar = makeElement("span", { class: "ramp", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(90deg, ${RAMPS[dark ? 1 : 0].join(", ")})`;
    const [low, high] = payload.color.texts;
    items.push(makeElement("li", {}, `${payload.color.label}: ${low} `, bar, ` ${high}`));
  }
  return items;
}

/** The front, and what is listed after it, as a table, for those who do not see the chart. */
function makeTable(payload) {
  const head = makeElement("tr", {});
  const hasOthers = payload.groups.some((group) => group.listed);
  const titles = hasOthers ? [...payload.titles, "mark"] : payload.titles;
  for (const title of titles) head.append(makeElement("th", { scope: "col" }, title));
  const body = makeElement("tbody", {});
  const rows = listStops(payload);
  for (const { group, index } of rows.slice(0, MOST_LISTED)) {
    const row = makeElement("tr", {}, makeElement("td", {}, nameNetwork(group, index)));
    for (const texts of group.texts) row.append(makeElement("td", {}, texts[index]));
    if (hasOthers) row.append(makeElement("td", {}, describeMark(group, index)));
    body.append(row);
  }
  const more = rows.length > MOST_LISTED ? ` The first ${MOST_LISTED} of ${rows.length}.` : "";
  const caption = makeElement("caption", {}, `${payload.label}. ${payload.summary}${more}`);
  return makeElement("table", {}, caption, makeElement("thead", {}, head), body);
}

/** The points that the arrow keys go to: the front from left to right, then what is listed. */
function listStops(payload) {
  const list = (group) => group.ids.map((_, index) => ({ group, index }));
  const front = payload.groups.filter((group) => group.front).flatMap(list);
  front.sort((a, b) => a.group.x[a.index] - b.group.x[b.index]);
  return [...front, ...payload.groups.filter((group) => group.listed).flatMap(list)];
}

/** What a network is called; some that cannot be chosen have a name all the same. */
function nameNetwork(group, index) {
  return group.ids[index] || (group.names ? group.names[index] : "");
}

function describeMark(group, index) {
  return group.reasons ? `${group.name}: ${group.reasons[index]}` : group.name;
}

/** Lines of a tooltip: what is known of a point, and what kind it is of. */
function describePoint(payload, group, index) {
  const name = nameNetwork(group, index);
  const lines = name ? [[payload.titles[0], name]] : [];
  group.texts.forEach((texts, n) => lines.push([payload.titles[n + 1], texts[index]]));
  lines.push(["mark", describeMark(group, index)]);
  return lines;
}
