// Regions that are drawn around points, in the stored units of the two axes.

// A hand draws more corners than an address can hold.
const MOST_CORNERS = 100;

/** A region from where the pointer went, `path` being pixels; null for a mere twitch. */
function makeRegion(kind, path, axes, scales) {
  if (path.length < 2) return null;
  const wide = Math.max(...path.map((p) => p.x)) - Math.min(...path.map((p) => p.x));
  const high = Math.max(...path.map((p) => p.y)) - Math.min(...path.map((p) => p.y));
  if (wide < 4 || high < 4) return null;
  const kept = kind === "box" ? [path[0], path[path.length - 1]] : spreadEvenly(path);
  if (kind === "lasso" && kept.length < 3) return null;
  return {
    kind,
    x: axes.x.name,
    y: axes.y.name,
    // Six digits are finer than a hand, and short enough for an address.
    corners: kept.map((p) =>
      [scales.x.invert(p.x), scales.y.invert(p.y)].map((value) => Number(value.toPrecision(6))),
    ),
    x_log: axes.x.log,
    y_log: axes.y.log,
  };
}

function spreadEvenly(path) {
  if (path.length <= MOST_CORNERS) return path;
  return Array.from(
    { length: MOST_CORNERS },
    (_, n) => path[Math.floor((n * path.length) / MOST_CORNERS)],
  );
}

/** A function of a point's stored values: whether it lies within a region; all do without one. */
function makeFilter(region) {
  if (!region) return () => true;
  const xs = region.corners.map((corner) => corner[0]);
  const ys = region.corners.map((corner) => corner[1]);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [bottom, top] = [Math.min(...ys), Math.max(...ys)];
  const isKnown = (x, y) => x !== null && y !== null;
  const inBox = (x, y) => isKnown(x, y) && left <= x && x <= right && bottom <= y && y <= top;
  if (region.kind === "box") return inBox;
  const straighten = (log, value) => (log ? Math.log(value) : value);
  const corners = region.corners.map(([x, y]) => [
    straighten(region.x_log, x),
    straighten(region.y_log, y),
  ]);
  return (x, y) =>
    inBox(x, y) &&
    crossesOddly(corners, straighten(region.x_log, x), straighten(region.y_log, y));
}

/** Whether a ray to the right of a place crosses an odd number of the sides of a polygon. */
function crossesOddly(corners, x, y) {
  let odd = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i, i += 1) {
    const [x1, y1] = corners[i];
    const [x2, y2] = corners[j];
    if (y1 > y !== y2 > y && x < x1 + ((y - y1) * (x2 - x1)) / (y2 - y1)) odd = !odd;
  }
  return odd;
}

/** The corners of a region as pixels: four of them for a box. */
function outlineRegion(region, scales) {
  let corners = region.corners;
  if (region.kind === "box") {
    const [[x1, y1], [x2, y2]] = corners;
    corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
  }
  return corners.map(([x, y]) => `${scales.x.place(x)},${scales.y.place(y)}`).join(" ");
}
