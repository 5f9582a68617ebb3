// A static page: a chart for each search, and what is selected in it as a table and as choices.
// It follows the script of the chart, with whose functions it makes its elements.

const MOST_ROWS = 300;
const MOST_COLUMNS = 40;
const MOST_WRITTEN = 24;

function start() {
  for (const source of document.querySelectorAll("script[data-search]")) {
    openSearch(source.closest("section"), JSON.parse(source.textContent));
  }
  showHints();
}

function openSearch(section, data) {
  const find = (part) => section.querySelector(`[data-part=${part}]`);
  const places = new Map(data.points.map((point) => [point.id, point]));
  let chosen = places.get(data.chosen) || null;
  let chart = null;

  const choose = (id) => {
    chosen = places.get(id) || chosen;
    chart.update(ringPoint(data, chosen));
    refresh();
  };
  const refresh = () => {
    const inside = makeFilter(data.scatter.region);
    const selected = data.scatter.region
      ? data.points.filter((point) => point.x !== null && point.y !== null)
          .filter((point) => inside(point.x, point.y))
      : data.points;
    find("selected").textContent = describeSelection(data, selected);
    find("points").replaceChildren(listPoints(data, selected, chosen, choose));
    find("genome").replaceChildren(drawGenome(data, selected, chosen));
    find("card").replaceChildren(...writeCard(data, chosen));
  };
  chart = mountChart(find("chart"), data.scatter, (event, value) => {
    if (event === "clicked") choose(value);
    if (event === "region") {
      data.scatter.region = value.kind === "none" ? null : value;
      refresh();
    }
  });
  refresh();
}

/** The chart with the ring around another point. */
function ringPoint(data, point) {
  const others = data.scatter.groups.filter((group) => group.kind !== "chosen");
  if (!point || point.x === null || point.y === null) return { ...data.scatter, groups: others };
  const source = others.find((group) => group.ids.includes(point.id));
  const texts = source ? source.texts.map((column) => [column[source.ids.indexOf(point.id)]]) : [];
  const place = { ids: [point.id], x: [point.x], y: [point.y], texts, marks: true };
  return { ...data.scatter, groups: [{ ...data.ring, ...place }, ...others] };
}

function describeSelection(data, selected) {
  const front = selected.filter((point) => point.front).length;
  const count = `${selected.length.toLocaleString("en-US")} points, ${front} of them on the front`;
  if (data.scatter.region) return `Selected: ${count}.`;
  return `${count}. Draw a box or a lasso in the chart to list a part of them.`;
}

function listPoints(data, selected, chosen, choose) {
  const head = makeElement("tr", {}, makeElement("th", { scope: "col" }, "architecture"));
  head.append(makeElement("th", { scope: "col" }, "kind"));
  for (const axis of data.axes) head.append(makeElement("th", { scope: "col" }, axis));
  const body = makeElement("tbody");
  for (const point of selected.slice(0, MOST_ROWS)) {
    const button = makeElement("button", { type: "button", class: "link" }, point.id);
    button.addEventListener("click", () => {
      choose(point.id);
      // The table was made anew; who came by keys goes on from the same row.
      const again = [...document.querySelectorAll("tr[aria-current] button")];
      (again.find((other) => other.textContent === point.id) || button).focus();
    });
    const row = makeElement("tr", {}, makeElement("td", {}, button));
    if (chosen && chosen.id === point.id) row.setAttribute("aria-current", "true");
    row.append(makeElement("td", {}, point.kind));
    for (const figure of point.figures) {
      row.append(makeElement("td", { class: "number" }, figure));
    }
    body.append(row);
  }
  const table = makeElement("table", {}, makeElement("thead", {}, head), body);
  if (selected.length > MOST_ROWS) {
    table.append(makeElement("caption", {}, `The first ${MOST_ROWS} of ${selected.length} points`));
  }
  return table;
}

function drawGenome(data, selected, chosen) {
  const front = selected.filter((point) => point.front);
  const columns = spread(front.length ? front : selected, MOST_COLUMNS);
  const head = makeElement("tr", {}, makeElement("td"));
  for (const point of columns) {
    const mark = chosen && chosen.id === point.id ? "chosen" : "";
    head.append(makeElement("th", { scope: "col", class: mark }, point.id));
  }
  const body = makeElement("tbody");
  data.choices.forEach((choice, n) => {
    const row = makeElement("tr", {}, makeElement("th", { scope: "row" }, choice.name));
    for (const point of columns) {
      const gene = point.genes[n];
      const cell = makeElement("td");
      if (gene >= 0) {
        const share = choice.values.length > 1 ? gene / (choice.values.length - 1) : 1;
        cell.className = `shade-${Math.round(4 * share)}`;
        if (columns.length <= MOST_WRITTEN) cell.textContent = choice.values[gene];
        else cell.setAttribute("aria-label", choice.values[gene]);
      }
      row.append(cell);
    }
    body.append(row);
  });
  const table = makeElement("table", { class: "genome" }, makeElement("thead", {}, head), body);
  return columns.length ? table : makeElement("p", {}, "No point is selected.");
}

function spread(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, n) => items[Math.floor((n * items.length) / most)]);
}

function writeCard(data, point) {
  if (!point) return [makeElement("p", {}, "Click a point to see its network.")];
  const figures = makeElement("dl", { class: "facts" });
  data.axes.forEach((axis, n) => {
    const note = point.notes[n] ? makeElement("small", { class: "quiet" }, point.notes[n]) : "";
    const value = makeElement("dd", {}, point.figures[n], note);
    figures.append(makeElement("div", {}, makeElement("dt", {}, axis), value));
  });
  const card = [
    makeElement("h3", {}, makeElement("code", {}, point.id)),
    makeElement("p", { class: "quiet" }, point.kind),
    figures,
    makeElement("h4", {}, "Choices"),
    listChoices(data, point),
  ];
  const latencies = data.latencies[point.id];
  if (latencies) card.push(makeElement("h4", {}, "Latency of units"), drawUnits(data, latencies));
  card.push(
    makeElement("h4", {}, "Export, from the folder that holds the run"),
    makeElement("pre", { tabindex: "0" }, point.export),
  );
  return card;
}

/** The choices of a network by the part that their names begin with. */
function listChoices(data, point) {
  const parts = new Map();
  data.choices.forEach(({ name, values }, n) => {
    const gene = point.genes[n];
    const dot = name.lastIndexOf(".");
    const part = dot < 0 ? "network" : name.slice(0, dot);
    if (!parts.has(part)) parts.set(part, []);
    if (gene >= 0) parts.get(part).push(`${name.slice(dot + 1)} ${values[gene]}`);
  });
  const table = makeElement("table");
  for (const [part, genes] of parts) {
    const text = genes.length ? genes.join(", ") : "left out";
    table.append(
      makeElement(
        "tr",
        {},
        makeElement("th", { scope: "row" }, part),
        makeElement("td", { class: genes.length ? "" : "quiet" }, text),
      ),
    );
  }
  return table;
}

function drawUnits(data, latencies) {
  const most = Math.max(...latencies.map((value) => value || 0));
  const axis = { scale: 1, unit: "ms" };
  const table = makeElement("table");
  data.units.forEach((unit, n) => {
    if (latencies[n] === null) return;
    const bar = makeElement("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${most > 0 ? (70 * latencies[n]) / most : 0}px`;
    const value = makeElement("td", { class: "number" }, bar, ` ${describeValue(axis, latencies[n])}`);
    table.append(makeElement("tr", {}, makeElement("th", { scope: "row" }, unit), value));
  });
  return table;
}

/** What a mark of a picture is, beside the pointer. */
function showHints() {
  const hint = makeElement("div", { class: "hint", "aria-hidden": "true" });
  hint.hidden = true;
  document.body.append(hint);
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest(".picture [role=graphics-symbol][aria-label]");
    // The label of a line is that of its first point.
    const said = mark && mark.getAttribute("aria-roledescription") !== "line mark";
    hint.hidden = !said;
    if (!said) return;
    hint.textContent = mark.getAttribute("aria-label");
    const left = Math.min(event.clientX + 12, window.innerWidth - hint.offsetWidth - 4);
    hint.style.left = `${Math.max(0, left)}px`;
    hint.style.top = `${event.clientY + 14}px`;
  });
}

start();
