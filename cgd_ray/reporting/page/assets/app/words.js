/*
 * Numbers and names as they are read.
 */

const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 1,234; a dash where nothing is known. */
export function count(value) {
  return value === null || value === undefined ? "–" : GROUPED.format(value);
}

/** "1 record", "2 records". */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** Why a generation did not end by itself, or nothing. */
export function endWords(reason) {
  return { length: "cut at its limit", repetition: "ended since it repeats itself" }[reason] ?? null;
}

/** 0.1234 as 12.3 %. */
export function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}\u202f%`;
}

/** 0.1234 as +12.3, in points. */
export function points(difference) {
  if (difference === null || difference === undefined) return "–";
  return `${difference < 0 ? "−" : "+"}${Math.abs(100 * difference).toFixed(1)}`;
}

/** An interval of shares in percent, or nothing. */
export function interval(bounds, format = (share) => (100 * share).toFixed(1)) {
  return bounds ? `${format(bounds[0])} to ${format(bounds[1])}` : "";
}

/** Three significant digits, large numbers grouped. */
export function significant(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1000) return count(value);
  return String(Number(value.toPrecision(3)));
}

/** Nats per token to four places, with a minus sign that is one. */
export function nats(value) {
  return value === null || value === undefined ? "–" : value.toFixed(4).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "");
}

/** p-values never look more exact than they are. */
export function probability(value) {
  if (value === null || value === undefined) return "–";
  return value < 0.001 ? "< 0.001" : value.toFixed(3);
}

/** 4 min 23 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${significant(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  if (hours) return `${count(hours)} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** wrong_to_right as "wrong → right", answer_in_critique as "answer in critique". */
export function spoken(name) {
  return String(name).replaceAll("_to_", " → ").replaceAll("_", " ");
}

/** The first letter large. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A share in percent without its sign, for columns that say it above. */
export function bare(share) {
  return share === null || share === undefined ? "–" : (100 * share).toFixed(1);
}
