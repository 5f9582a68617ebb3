// The interactive chart of a front. `payload` is what app/reporting/scatter/payload.py builds.

const NEAR = 14;
const HEIGHT = 460;
const LOW_HEIGHT = 340;

/** One chart in one place of a page; `report(event, value)` is told what a person does. */
class Chart {
  constructor(root, report) {
    this.root = root;
    this.report = report;
    this.payload = null;
    this.mode = "move";
    this.region = null;
    this.draft = null;
    this.hovered = null;
    this.stop = -1;
    this.hasFocus = false;
    // Whether somebody chose what is seen, so that another payload must not change it.
    this.zoomed = false;
    this.build();
    listenToPointer(this);
    listenToKeys(this);
    this.observer = new ResizeObserver(() => this.render());
    this.observer.observe(this.plot);
    // A page that changes between light and dark does not tell: its text changes colour.
    this.root.addEventListener("transitionend", (event) => {
      if (event.propertyName === "color" && event.target === this.root) this.render();
    });
  }

  build() {
    this.root.className = "scatter";
    const choose = (mode) => () => this.chooseMode(mode);
    const tools = makeToolbar([
      [
        ["Move", "Move: drag to move the chart", choose("move")],
        ["Box", "Box: drag a box around points", choose("box")],
        ["Lasso", "Lasso: draw around points", choose("lasso")],
      ],
      [
        ["+", "Zoom in", () => this.zoom(0.7)],
        ["\u2212", "Zoom out", () => this.zoom(1 / 0.7)],
        ["Front", "Front: zoom to the front", () => this.show("domain")],
        ["All", "All: zoom to everything drawn", () => this.show("full")],
      ],
      [["Clear selection", "Clear selection", () => this.setRegion(null)]],
    ]);
    this.buttons = tools.buttons;
    this.legend = makeElement("ul", { class: "legend", "aria-label": "Legend" });
    this.back = makeSvg("svg", { "aria-hidden": "true" });
    this.canvas = makeElement("canvas", { "aria-hidden": "true" });
    this.marks = makeSvg("g");
    this.lines = makeSvg("g");
    this.front = makeSvg("svg", {}, this.marks, this.lines);
    this.tip = makeElement("div", { class: "tip", "aria-hidden": "true" });
    this.plot = makeElement(
      "div",
      { class: "plot", tabindex: "0", role: "application", "aria-roledescription": "chart" },
      this.back,
      this.canvas,
      this.front,
      this.tip,
    );
    this.spoken = makeElement("div", { class: "unseen", role: "status" });
    this.notes = makeElement("div", { class: "notes" });
    this.table = makeElement("details", { class: "listed" });
    this.help = makeElement(
      "details",
      {},
      makeElement("summary", {}, "Mouse and keys"),
      makeElement("p", {}, HELP),
    );
    this.root.append(
      tools.bar,
      this.legend,
      this.plot,
      this.spoken,
      this.notes,
      this.table,
      this.help,
    );
    this.chooseMode("move");
  }

  /** Show another payload; a zoom made by hand is kept while the axes stay the same. */
  update(payload) {
    const axes = JSON.stringify([payload.x, payload.y].map((axis) => [axis.name, axis.log]));
    const moved = axes !== this.axes || !this.zoomed;
    this.axes = axes;
    this.payload = payload;
    this.region = payload.region;
    this.draft = null;
    this.hovered = null;
    this.stops = listStops(payload);
    this.stop = Math.min(this.stop, this.stops.length - 1);
    this.plot.setAttribute("aria-label", `${payload.label}. ${payload.summary}`);
    this.notes.replaceChildren(...payload.notes.map((note) => makeElement("p", {}, note)));
    const title = makeElement("summary", {}, "The front as a table");
    const box = makeElement("div", { class: "wide", tabindex: "0", role: "group" });
    box.setAttribute("aria-label", "The front as a table");
    box.append(makeTable(payload));
    this.table.replaceChildren(title, box);
    this.makeBudgets();
    if (moved) this.show("domain");
    else this.render();
  }

  destroy() {
    this.observer.disconnect();
    this.root.remove();
  }

  chooseMode(mode) {
    this.mode = mode;
    this.plot.dataset.mode = mode;
    for (const [name, button] of Object.entries(this.buttons)) {
      if (!["Move", "Box", "Lasso"].includes(name)) continue;
      button.setAttribute("aria-pressed", String(name.toLowerCase() === mode));
    }
  }

  // -- what is seen ----------------------------------------------------------------------------

  show(name) {
    if (!this.payload) return;
    this.zoomed = name !== "domain";
    const spans = {};
    for (const key of ["x", "y"]) {
      const axis = this.payload[key];
      spans[key] = axis[name].map((value) => stretch(axis, value));
    }
    this.spans = spans;
    this.render();
  }

  /** Zoom around a place in pixels, or the middle; `factor` below 1 shows less. */
  zoom(factor, at) {
    this.zoomed = true;
    for (const key of ["x", "y"]) {
      const axis = this.payload[key];
      const [low, high] = this.spans[key];
      const [first, last] = axis.full.map((value) => stretch(axis, value));
      const most = 4 * Math.max(last - first, high - low);
      const width = Math.min((high - low) * factor, most);
      if (width < 1e-9 * Math.max(Math.abs(low), Math.abs(high))) return;
      const center = at ? stretch(axis, this.scales[key].invert(at[key])) : (low + high) / 2;
      const share = (center - low) / (high - low);
      this.spans[key] = [center - share * width, center + (1 - share) * width];
    }
    this.render();
  }

  /** Move what is seen by so many pixels. */
  pan(across, down) {
    this.zoomed = true;
    const { left, right, top, bottom } = this.frame;
    const shift = { x: -across / (right - left), y: down / (bottom - top) };
    for (const key of ["x", "y"]) {
      const [low, high] = this.spans[key];
      const by = shift[key] * (high - low);
      this.spans[key] = [low + by, high + by];
    }
    this.render();
  }

  /** The nearest drawn point to a place in pixels, if one is near. */
  find(x, y) {
    let best = null;
    let nearest = NEAR * NEAR;
    for (const group of this.payload.groups) {
      group.x.forEach((value, index) => {
        const away = [this.scales.x.place(value) - x, this.scales.y.place(group.y[index]) - y];
        const distance = away[0] ** 2 + away[1] ** 2;
        if (distance < nearest) [best, nearest] = [{ group, index }, distance];
      });
    }
    return best;
  }

  // -- drawing ---------------------------------------------------------------------------------

  render() {
    const width = this.plot.clientWidth;
    if (!this.payload || !this.spans || width < 60) return;
    const height = width < 520 ? LOW_HEIGHT : HEIGHT;
    this.plot.style.height = `${height}px`;
    const ticks = listTicks(this.payload.y, this.spans.y, 7);
    const longest = Math.max(3, ...ticks.map(({ text }) => text.length));
    this.frame = { left: 34 + 7 * longest, right: width - 12, top: 10, bottom: height - 48 };
    const { left, right, top, bottom } = this.frame;
    this.scales = {
      x: makeScale(this.payload.x, this.spans.x, left, right),
      y: makeScale(this.payload.y, this.spans.y, bottom, top),
    };
    for (const layer of [this.back, this.front]) {
      layer.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
    this.back.replaceChildren(...drawAxes(this.payload, this.frame, this.scales, this.spans));
    this.drawCanvas(width, height);
    this.legend.replaceChildren(...listLegend(this.payload, this.isDark()));
    this.drawMarks();
    this.placeBudgets();
    this.buttons["Clear selection"].hidden = !this.region;
  }

  drawCanvas(width, height) {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const { left, right, top, bottom } = this.frame;
    context.beginPath();
    context.rect(left, top - 6, right - left + 6, bottom - top + 6);
    context.clip();
    const faint = this.payload.groups.map((group) => new Set(group.faint || []));
    const inside = makeFilter(this.draft || this.region);
    const places = new Map(this.payload.groups.map((group, n) => [group, faint[n]]));
    const isFaint = (group, n) =>
      !group.marks && (places.get(group).has(n) || !inside(group.x[n], group.y[n]));
    drawPayload(context, this.payload, this.scales, this.isDark(), isFaint);
  }

  /** The region, names of references, and a ring around the point that is pointed at. */
  drawMarks() {
    const parts = [];
    const { left, right, top, bottom } = this.frame;
    const region = this.draft || this.region;
    if (region) {
      const points = outlineRegion(region, this.scales);
      const [width, height] = [right - left, bottom - top];
      const viewBox = `${left} ${top} ${width} ${height}`;
      // A picture within the picture ends where the axes do, whatever the zoom.
      const frame = { x: left, y: top, width, height, viewBox };
      parts.push(makeSvg("svg", frame, makeSvg("polygon", { class: "region", points })));
    }
    const isSeen = (x, y) => left <= x && x <= right && top <= y && y <= bottom;
    for (const group of this.payload.groups) {
      if (group.written === undefined) continue;
      const [x, y] = [this.scales.x.place(group.x[0]), this.scales.y.place(group.y[0])];
      if (!isSeen(x, y)) continue;
      const toTheLeft = x > (left + right) / 2;
      const place = { x: toTheLeft ? x - 9 : x + 9, y: y + 4 };
      const anchor = { "text-anchor": toTheLeft ? "end" : "start" };
      parts.push(makeSvg("text", { ...place, ...anchor }, group.written));
    }
    const pointed = this.hovered || this.stops[this.stop];
    if (pointed && (this.hovered || this.hasFocus)) {
      const [x, y] = this.locate(pointed);
      if (isSeen(x, y)) parts.push(makeSvg("circle", { class: "ring", cx: x, cy: y, r: 8 }));
      this.showTip(pointed, x, y);
    } else {
      this.tip.hidden = true;
    }
    this.marks.replaceChildren(...parts);
  }

  locate({ group, index }) {
    return [this.scales.x.place(group.x[index]), this.scales.y.place(group.y[index])];
  }

  showTip({ group, index }, x, y) {
    const rows = describePoint(this.payload, group, index).map(([title, text]) =>
      makeElement("div", {}, makeElement("span", {}, `${title} `), text),
    );
    this.tip.replaceChildren(...rows);
    this.tip.hidden = false;
    const [wide, high] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const beside = x + 14 + wide > this.plot.clientWidth ? x - 14 - wide : x + 14;
    this.tip.style.left = `${Math.max(0, beside)}px`;
    this.tip.style.top = `${Math.max(0, y - high - 10)}px`;
  }

  isDark() {
    // The colour of the background may be given in any notation; a canvas understands them all.
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#ffffff";
    const named = getComputedStyle(this.root).getPropertyValue("--st-background-color").trim();
    if (named) context.fillStyle = named;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
  }

  // -- what can be changed ---------------------------------------------------------------------

  setRegion(region) {
    this.draft = null;
    const changed = region !== null || this.region !== null;
    this.region = region;
    this.render();
    if (changed) this.report("region", region || { kind: "none" });
  }

  choose(point) {
    const id = point && point.group.ids[point.index];
    if (id) this.report("clicked", id);
  }

  /** Go along the front and say what is there. */
  goTo(place) {
    if (!this.stops.length) return;
    this.stop = Math.min(Math.max(place, 0), this.stops.length - 1);
    this.hovered = null;
    const point = this.stops[this.stop];
    const { left, right, top, bottom } = this.frame;
    const [x, y] = this.locate(point);
    const [across, down] = [(left + right) / 2 - x, (top + bottom) / 2 - y];
    if (x < left || x > right) this.pan(across, 0);
    if (y < top || y > bottom) this.pan(0, down);
    this.drawMarks();
    const said = describePoint(this.payload, point.group, point.index);
    const where = `${this.stop + 1} of ${this.stops.length}`;
    this.spoken.textContent = `${where}: ${said.map((line) => line.join(" ")).join(", ")}`;
  }

  makeBudgets() {
    const budgets = this.payload.budgets;
    // A line that is held or has the focus must not be replaced under the hand.
    const count = budgets ? budgets.values.length : 0;
    while (this.lines.childElementCount > count) this.lines.lastElementChild.remove();
    while (this.lines.childElementCount < count) {
      const grip = makeSvg("line", { class: "grip" });
      const line = makeSvg("line", { class: "budget" });
      const text = makeSvg("text", { class: "budget" });
      this.lines.append(makeSvg("g", { tabindex: "0", role: "slider" }, grip, line, text));
      listenToBudget(this, this.lines.lastElementChild, this.lines.childElementCount - 1);
    }
    this.budgets = budgets ? [...budgets.values] : [];
  }

  placeBudgets() {
    const { left, right, top, bottom } = this.frame;
    this.budgets.forEach((value, n) => {
      const { axis: key, label } = this.payload.budgets;
      const axis = this.payload[key];
      const holder = this.lines.children[n];
      const [grip, line, text] = holder.children;
      const place = this.scales[key].place(value);
      const across = key === "x";
      const ends = across
        ? { x1: place, x2: place, y1: top, y2: bottom }
        : { x1: left, x2: right, y1: place, y2: place };
      for (const part of [grip, line]) {
        for (const [name, end] of Object.entries(ends)) part.setAttribute(name, end);
      }
      const written = `${label} ${describeValue(axis, value)}`;
      const toTheLeft = across && place > (left + right) / 2;
      text.setAttribute("x", across ? place + (toTheLeft ? -6 : 6) : right - 4);
      text.setAttribute("y", across ? bottom - 8 - 15 * n : place - 6);
      text.setAttribute("text-anchor", across && !toTheLeft ? "start" : "end");
      text.textContent = written;
      const seen = across ? left <= place && place <= right : top <= place && place <= bottom;
      holder.style.display = seen ? "" : "none";
      holder.setAttribute("aria-label", `${label} ${n + 1}`);
      holder.setAttribute("aria-orientation", across ? "horizontal" : "vertical");
      holder.setAttribute("aria-valuemin", axis.full[0]);
      holder.setAttribute("aria-valuemax", axis.full[1]);
      holder.setAttribute("aria-valuenow", value);
      holder.setAttribute("aria-valuetext", describeValue(axis, value));
    });
  }

  /** Move a budget line; what is dragged is reported once it is let go. */
  moveBudget(n, value) {
    const axis = this.payload[this.payload.budgets.axis];
    this.budgets[n] = axis.log || axis.full[0] > 0 ? Math.max(value, 1e-12) : value;
    this.placeBudgets();
  }

  reportBudgets() {
    this.report("budgets", [...this.budgets]);
  }
}

/** Put a chart into an element of a page. */
function mountChart(parent, payload, report) {
  const root = document.createElement("div");
  parent.append(root);
  const chart = new Chart(root, report);
  chart.update(payload);
  return chart;
}

const mounted = new WeakMap();

/** What Streamlit calls on every rerun; the chart that is there stays there. */
export default function ({ parentElement, data, setTriggerValue }) {
  let chart = mounted.get(parentElement);
  if (!chart || !chart.root.isConnected) {
    chart = mountChart(parentElement, data[0], setTriggerValue);
    mounted.set(parentElement, chart);
  } else {
    chart.report = setTriggerValue;
    chart.update(data[0]);
  }
  return () => {
    mounted.delete(parentElement);
    chart.destroy();
  };
}
