/** The words for numbers and names, as render.py has them for the server. */

const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** `text` with what cannot be seen written out. @param {string} text */
export function plain(text) {
  return text.replace(INVISIBLE, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** @param {number} value */
export function number(value) {
  return value.toLocaleString("en-US");
}

/** `value` and what it is of. @param {number} value @param {number} total */
export function part(value, total) {
  return `${number(value)} of ${number(total)} (${percent(value / total)})`;
}

/** A count of bytes. @param {number} count */
export function size(count) {
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (count < 1000) return `${Number(count.toPrecision(3))} ${unit}`;
    count /= 1000;
  }
  return `${Number(count.toPrecision(3))} TB`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${Math.ceil(seconds / 3600)} h`;
}

/** @param {string} moment */
export function when(moment) {
  return `${new Date(moment).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** A share as a percentage of three figures. @param {number} share */
export function percent(share) {
  return `${Number((100 * share).toPrecision(3))} %`;
}
