// What the figures of spectra are made of: bars by standing, legends, axes and their scales.
import { standingAt } from "./model.mjs"
import { small } from "./words.mjs"

const HATCHED = 6 // px that a bar needs to carry stripes; a thinner one wears a cap

// a bar from `from` to `to`; what hurts carries a mark that needs no colour
export function standingBar(sheet, ink, m, i, { x, width, from, to }) {
  const { colour, opacity, striped } = standingAt(m, i)
  const top = Math.min(from, to), height = Math.max(Math.abs(from - to), 0.6)
  sheet.rect(x, top, width, height, colour, opacity)
  if (striped) hatch(sheet, ink, x, top, width, height)
}

function hatch(sheet, ink, x, y, width, height) {
  if (width >= HATCHED && height >= 8) for (let at = y + 3; at < y + height - 1; at += 5) sheet.rect(x, at, width, 1.4, ink.back)
  else sheet.rect(x, y - 2.2, width, 2.2, ink.text)
}

// what colours mean beside bars of this width
export function legend(sheet, ink, m, x, y, width = HATCHED) {
  const { standings, unmeasured } = m.palette
  const entries = m.measured ? [...standings, ...(m.gaps ? [unmeasured] : [])] : [{ ...unmeasured, words: "not measured yet" }]
  for (const { colour, words, opacity, striped } of entries) {
    sheet.rect(x + 3, y - 9, 10, 10, colour, opacity)
    if (striped && width >= HATCHED) hatch(sheet, ink, x + 3, y - 9, 10, 10)
    else if (striped) sheet.rect(x + 3, y - 11.2, 10, 2.2, ink.text)
    sheet.text(x + 20, y, words, ink.text)
    x += 36 + words.length * 5.5
  }
  return x
}

export function axisLeft(sheet, ink, left, right, y, values, format = small) {
  for (const value of values) {
    sheet.path([[left, y(value)], [right, y(value)]], ink.line)
    sheet.text(left - 5, y(value) + 4, format(value), ink.text, { align: "right" })
  }
}

// y of a value between `bottom` and `top`; on a log axis what lies under the floor stands on it
export function scaleOf(low, high, log, top, bottom) {
  if (!log) return (value) => bottom - ((value - low) / (high - low || 1)) * (bottom - top)
  const floor = Math.log(low), room = Math.log(high) - floor || 1
  return (value) => bottom - (Math.max(0, Math.log(Math.max(value, 1e-300)) - floor) / room) * (bottom - top)
}

export function logTicks(low, high) {
  const found = [], steps = high / low > 40 ? [1] : [1, 2, 5]
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const step of steps) found.push(step * 10 ** power)
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001)
}

// of the values from `from` to `to`: the ends, which hold 0, and the least positive one; with `errors` what they reach
export function extent(values, from, to, errors = null) {
  let low = Infinity, high = -Infinity, least = Infinity
  for (let i = from; i < to; i++) {
    const value = values[i], error = Number.isFinite(errors?.[i]) ? errors[i] : 0
    if (!Number.isFinite(value)) continue
    low = Math.min(low, value - error)
    high = Math.max(high, value + error)
    if (value > 0 && value < least) least = value
  }
  return { low: Math.min(0, low), high: Math.max(0, high), least }
}

// the ends of an axis for values of this extent
export function ends({ low, high, least }, log, decades = 4) {
  if (!(high > low)) return [0, 1]
  return log ? [Math.max(least / 1.6, high / 10 ** decades), high] : [low, high]
}

export const clipped = (words) => (words.length > 15 ? words.slice(0, 14) + "…" : words)
