// Points, intervals and lines on a canvas: thousands of them in a few milliseconds.

// Viridis without the end that a page swallows: yellow on a light one, violet on a dark one.
const RAMPS = [
  ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151"],
  ["#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"],
];
const FAINT = 0.2;

/** The outline of a mark around (0, 0), as SVG and canvas both read it. */
function outlineMark(shape, r) {
  if (shape === "square") return `M${-r},${-r}H${r}V${r}H${-r}Z`;
  if (shape === "diamond") return `M0,${-r}L${r},0L0,${r}L${-r},0Z`;
  if (shape === "triangle") return `M0,${-r}L${r},${r}L${-r},${r}Z`;
  if (shape === "cross") return `M${-r},${-r}L${r},${r}M${r},${-r}L${-r},${r}`;
  return `M${r},0A${r},${r},0,1,1,${-r},0A${r},${r},0,1,1,${r},0Z`;
}

/** A colour between the ends of the ramp; `share` is from 0 to 1. */
function mixColor(share, dark) {
  const ramp = RAMPS[dark ? 1 : 0];
  const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const below = Math.min(Math.floor(place), ramp.length - 2);
  const [from, to] = [ramp[below], ramp[below + 1]].map((color) =>
    [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)),
  );
  const mixed = from.map((part, n) => Math.round(part + (to[n] - part) * (place - below)));
  return `rgb(${mixed.join(",")})`;
}

/**
 * Draws everything that is not text.
 * @param context Of the canvas, scaled to pixels of the page.
 * @param payload What is drawn.
 * @param scales Of both axes.
 * @param dark Whether the page is dark.
 * @param isFaint Of a group and an index: whether the point is left out by filter or region.
 */
function drawPayload(context, payload, scales, dark, isFaint) {
  for (const line of payload.lines) drawLine(context, line, scales, dark);
  if (payload.joins) drawJoins(context, payload.joins, scales, dark);
  // The first group of the legend is drawn last, above the others.
  for (const group of [...payload.groups].reverse()) {
    drawIntervals(context, group, scales, dark, isFaint);
    drawGroup(context, group, payload.color, scales, dark, isFaint);
  }
}

function drawLine(context, line, scales, dark) {
  context.beginPath();
  line.x.forEach((value, n) => {
    const [x, y] = [scales.x.place(value), scales.y.place(line.y[n])];
    if (n > 0 && line.step) context.lineTo(x, scales.y.place(line.y[n - 1]));
    if (n > 0) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
  context.setLineDash(line.step ? [] : [2, 3]);
  stroke(context, line.color[dark ? 1 : 0], 1.2, 0.75);
  context.setLineDash([]);
}

function drawJoins(context, joins, scales, dark) {
  context.beginPath();
  joins.x.forEach((value, n) => {
    context.moveTo(scales.x.place(value), scales.y.place(joins.y[n]));
    context.lineTo(scales.x.place(joins.x_end[n]), scales.y.place(joins.y_end[n]));
  });
  stroke(context, joins.color[dark ? 1 : 0], 1, 0.7);
}

function drawIntervals(context, group, scales, dark, isFaint) {
  if (!group.x_low) return;
  for (const faint of [true, false]) {
    context.beginPath();
    group.x.forEach((value, n) => {
      if (isFaint(group, n) !== faint) return;
      const [x, y] = [scales.x.place(value), scales.y.place(group.y[n])];
      if (group.x_low[n] !== null) {
        context.moveTo(scales.x.place(group.x_low[n]), y);
        context.lineTo(scales.x.place(group.x_high[n]), y);
      }
      if (group.y_low[n] !== null) {
        context.moveTo(x, scales.y.place(group.y_low[n]));
        context.lineTo(x, scales.y.place(group.y_high[n]));
      }
    });
    stroke(context, group.color[dark ? 1 : 0], 1.1, faint ? FAINT : 0.5);
  }
}

function drawGroup(context, group, color, scales, dark, isFaint) {
  const outline = new Path2D(outlineMark(group.shape, group.radius));
  const own = group.color[dark ? 1 : 0];
  const [low, high] = color ? color.domain : [0, 1];
  context.lineWidth = 1.5;
  group.x.forEach((value, n) => {
    const shade = group.shade ? group.shade[n] : null;
    const drawn = shade === null ? own : mixColor((shade - low) / (high - low || 1), dark);
    context.save();
    context.translate(scales.x.place(value), scales.y.place(group.y[n]));
    context.globalAlpha = isFaint(group, n) ? FAINT * group.opacity : group.opacity;
    context.fillStyle = drawn;
    context.strokeStyle = drawn;
    if (group.filled && group.shape !== "cross") context.fill(outline);
    else context.stroke(outline);
    context.restore();
  });
}

function stroke(context, color, width, alpha) {
  context.strokeStyle = color;
  context.lineWidth = width;
  context.globalAlpha = alpha;
  context.stroke();
  context.globalAlpha = 1;
}
