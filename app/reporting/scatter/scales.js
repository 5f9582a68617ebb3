// Axes: where a value is drawn, which values are written beside an axis, and how.

/** A value on the scale of its axis: on a logarithmic one, equal factors are equally far apart. */
function stretch(axis, value) {
  return axis.log ? Math.log10(value) : value;
}

/** The inverse of `stretch`. */
function relax(axis, stretched) {
  return axis.log ? 10 ** stretched : stretched;
}

// How far inside the chart a point is drawn that has no value, in pixels.
const INSIDE = 6;

/**
 * Places values between two pixels; a point without a value is at the lower end of the axis.
 * @param axis An axis of the payload.
 * @param span What the axis shows: two stretched values.
 * @param from The pixel of the first, `to` that of the second.
 */
function makeScale(axis, span, from, to) {
  const unit = (to - from) / (span[1] - span[0]);
  const edge = from + INSIDE * Math.sign(to - from);
  return {
    place: (value) =>
      value === null ? edge : from + (stretch(axis, value) - span[0]) * unit,
    invert: (pixel) => relax(axis, span[0] + (pixel - from) / unit),
  };
}

/** Where an axis has its ticks, `count` of them or so: values in the stored unit, with texts. */
function listTicks(axis, span, count) {
  if (axis.log && span[1] - span[0] > 0.7) return listPowers(axis, span, count);
  const low = relax(axis, span[0]) * axis.scale;
  const high = relax(axis, span[1]) * axis.scale;
  const step = chooseStep((high - low) / count);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n <= high / step + 1e-9; n += 1) {
    const shown = n * step;
    ticks.push({ value: shown / axis.scale, text: formatNumber(shown, decimals) });
  }
  return ticks;
}

function listPowers(axis, span, count) {
  const shift = Math.log10(axis.scale);
  const [low, high] = [span[0] + shift, span[1] + shift];
  const digits = high - low < count / 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.round((high - low) / count));
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    if (power % every !== 0) continue;
    for (const digit of digits) {
      const shown = digit * 10 ** power;
      const place = Math.log10(shown);
      if (place < low || place > high) continue;
      ticks.push({ value: shown / axis.scale, text: formatNumber(shown, Math.max(0, -power)) });
    }
  }
  return ticks;
}

/** The least of 1, 2 and 5 times a power of ten that is not below `least`. */
function chooseStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= least * (1 - 1e-9));
}

function formatNumber(value, decimals) {
  if (Math.abs(value) >= 1e9 || (value !== 0 && Math.abs(value) < 1e-6)) {
    return value.toExponential(1);
  }
  return value.toLocaleString("en-US", {
    minimumFractionDigits: Math.min(decimals, 12),
    maximumFractionDigits: Math.min(decimals, 12),
  });
}

/** A stored value with three digits and the unit of its axis. */
function describeValue(axis, value) {
  const shown = value * axis.scale;
  const size = shown === 0 ? 0 : Math.floor(Math.log10(Math.abs(shown)));
  const written = formatNumber(shown, Math.max(0, 2 - size));
  return axis.unit ? `${written} ${axis.unit}` : written;
}
