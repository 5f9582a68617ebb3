// What a pointer and keys do to a chart.

const TWITCH = 4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Dragging, pinching, pointing, clicking and the wheel. */
function listenToPointer(chart) {
  const held = new Map();
  let drag = null;

  const locate = (event) => {
    const box = chart.plot.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const finish = (event, act) => {
    const was = drag;
    held.delete(event.pointerId);
    if (!was || held.size) return;
    drag = null;
    if (!act) {
      chart.draft = null;
      chart.render();
    } else if (!was.moved) {
      chart.choose(chart.find(was.path[0].x, was.path[0].y));
    } else if (was.mode !== "move") {
      const region = makeRegion(was.mode, was.path, chart.payload, chart.scales);
      if (region) chart.setRegion(region);
      else finishNothing();
    }
  };

  const finishNothing = () => {
    chart.draft = null;
    chart.render();
  };

  chart.plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("[role=slider]")) return;
    const at = locate(event);
    held.set(event.pointerId, at);
    chart.plot.setPointerCapture(event.pointerId);
    const chosen = event.shiftKey ? "box" : event.altKey ? "lasso" : chart.mode;
    if (held.size === 1) drag = { mode: chosen, path: [at], moved: false };
    else if (drag) drag.moved = true;
  });

  chart.plot.addEventListener("pointermove", (event) => {
    const at = locate(event);
    if (!held.has(event.pointerId)) {
      if (!chart.payload || !chart.scales || chart.plot.dataset.holds) return;
      const found = event.target.closest("[role=slider]") ? null : chart.find(at.x, at.y);
      if (!found && !chart.hovered) return;
      chart.hovered = found;
      chart.drawMarks();
      return;
    }
    const before = held.get(event.pointerId);
    held.set(event.pointerId, at);
    if (held.size === 2) {
      pinch(chart, held, event.pointerId, before);
      return;
    }
    if (!drag) return;
    const [first] = drag.path;
    drag.moved = drag.moved || Math.hypot(at.x - first.x, at.y - first.y) > TWITCH;
    if (!drag.moved) return;
    chart.hovered = null;
    if (drag.mode === "move") {
      chart.pan(at.x - before.x, at.y - before.y);
    } else {
      drag.path.push(at);
      chart.draft = makeRegion(drag.mode, drag.path, chart.payload, chart.scales);
      chart.render();
    }
  });

  chart.plot.addEventListener("pointerup", (event) => finish(event, true));
  chart.plot.addEventListener("pointercancel", (event) => finish(event, false));
  chart.plot.addEventListener("pointerleave", () => {
    chart.hovered = null;
    if (chart.scales) chart.drawMarks();
  });
  chart.plot.addEventListener("dblclick", () => chart.show("domain"));
  chart.plot.addEventListener(
    "wheel",
    (event) => {
      // Who only scrolls past the chart does not mean it.
      if (!chart.hasFocus && !event.ctrlKey) return;
      event.preventDefault();
      chart.zoom(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) / 400), locate(event));
    },
    { passive: false },
  );
}

/** Zoom by as much as two fingers went apart, around the middle between them. */
function pinch(chart, held, moved, before) {
  const [a, b] = [...held.entries()].map(([id, at]) => ({ now: at, was: id === moved ? before : at }));
  const distance = (key) => Math.hypot(a[key].x - b[key].x, a[key].y - b[key].y);
  if (distance("now") < 10) return;
  const middle = { x: (a.now.x + b.now.x) / 2, y: (a.now.y + b.now.y) / 2 };
  chart.zoom(distance("was") / distance("now"), middle);
}

function listenToKeys(chart) {
  chart.plot.addEventListener("focusin", () => {
    chart.hasFocus = true;
  });
  chart.plot.addEventListener("focusout", () => {
    chart.hasFocus = false;
    if (chart.scales) chart.drawMarks();
  });
  chart.plot.addEventListener("keydown", (event) => {
    if (event.target !== chart.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) chart.pan(-60 * arrow[0], -60 * arrow[1]);
    // Up is along the front as right is: both lead to what costs more.
    else if (arrow) chart.goTo(chart.stop + (arrow[0] - arrow[1]));
    else if (event.key === "Home") chart.goTo(0);
    else if (event.key === "End") chart.goTo(Infinity);
    else if (event.key === "Enter") chart.choose(chart.stops[chart.stop]);
    else if (event.key === "+" || event.key === "=") chart.zoom(0.7);
    else if (event.key === "-") chart.zoom(1 / 0.7);
    else if (event.key === "0") chart.show("domain");
    else if (event.key === "Escape") escape(chart);
    else return;
    event.preventDefault();
  });
}

function escape(chart) {
  chart.hovered = null;
  chart.stop = -1;
  chart.spoken.textContent = "";
  if (chart.region) chart.setRegion(null);
  else chart.drawMarks();
}

/** A budget is moved by dragging its line and by the keys of a slider. */
function listenToBudget(chart, holder, n) {
  const follow = (event) => {
    const box = chart.plot.getBoundingClientRect();
    const across = chart.payload.budgets.axis === "x";
    const { left, right, top, bottom } = chart.frame;
    const at = across
      ? Math.min(Math.max(event.clientX - box.left, left), right)
      : Math.min(Math.max(event.clientY - box.top, top), bottom);
    chart.moveBudget(n, chart.scales[across ? "x" : "y"].invert(at));
  };
  const letGo = (event) => {
    if (!chart.plot.dataset.holds) return;
    delete chart.plot.dataset.holds;
    if (event.type === "pointerup") chart.reportBudgets();
  };
  holder.addEventListener("pointerdown", (event) => {
    chart.plot.dataset.holds = "budget";
    holder.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  holder.addEventListener("pointermove", (event) => {
    if (holder.hasPointerCapture(event.pointerId)) follow(event);
  });
  holder.addEventListener("pointerup", letGo);
  holder.addEventListener("pointercancel", letGo);
  holder.addEventListener("keydown", (event) => {
    const key = chart.payload.budgets.axis;
    const axis = chart.payload[key];
    const [low, high] = chart.spans[key];
    const size = event.key.startsWith("Page") ? 0.1 : 0.01;
    const steps = { ArrowLeft: -1, ArrowDown: -1, PageDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 1 };
    let place = stretch(axis, chart.budgets[n]) + (steps[event.key] || 0) * size * (high - low);
    if (event.key === "Home") place = low;
    else if (event.key === "End") place = high;
    else if (!steps[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    chart.moveBudget(n, relax(axis, Math.min(Math.max(place, low), high)));
    chart.reportBudgets();
  });
}
