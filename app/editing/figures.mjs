// The board's figures, painted on any sheet from its state and the gains it shows. Each returns where things lie.
import { standingOf, text, ticks } from "../components/sheet.mjs"
import { moduleOf } from "./state.mjs"

const AIR = 1.08 // of the axis above the largest bar

// `high`: the end of the axis where it must not move, as under a hand that pulls a bar
export function drawBars(sheet, ink, state, gains, high = null) {
  const module = moduleOf(state), { palette } = state.data, { width } = sheet
  const sigma = state.sigma.subarray(module.start, module.start + module.rank)
  const after = sigma.map((value, k) => value * gains[module.start + k])
  const left = 46, bottom = 48, top = 8, height = sheet.height - top - bottom
  const most = high ?? Math.max(...sigma, ...after, 1e-12) * AIR
  const y = (value) => top + height * (1 - value / most)
  const cell = (width - left - 6) / module.rank
  axis(sheet, ink, left, width - 6, y, ticks(most))
  const manual = state.data.manual[module.name] ?? {}
  for (let k = 0; k < module.rank; k++) {
    const x = left + k * cell
    if (state.picked.has(k)) sheet.rect(x, top, cell, height, ink.accent, 0.13)
    sheet.rect(x + cell * 0.12, y(sigma[k]), cell * 0.36, y(0) - y(sigma[k]), palette.before)
    sheet.rect(x + cell * 0.52, y(after[k]), cell * 0.36, Math.max(y(0) - y(after[k]), 1), k in manual ? palette.byHand : palette.after)
    if (module.rank <= 40 || k % 8 === 0) sheet.text(x + cell / 2, sheet.height - 34, k, ink.text, { align: "center" })
  }
  drawSensitivities(sheet, state, module, left, cell)
  sheet.text(4, top + 10, "σ", ink.text)
  sheet.text(2, sheet.height - 10, "mean g", ink.text)
  sheet.path([[left, sheet.height - 14], [width - 6, sheet.height - 14]], ink.line)
  return { left, cell, high: most, top, height }
}

// marks below the axis: downwards what hurts, upwards what it helps to raise
function drawSensitivities(sheet, { data, mean, error }, { start, rank }, left, cell) {
  const size = mean.length ? Math.max(...mean.subarray(start, start + rank).map(Math.abs)) : 0
  if (!(size > 0)) return
  for (let k = 0; k < rank; k++) {
    const g = mean[start + k], sure = Math.abs(g) > data.errors * error[start + k]
    sheet.rect(left + k * cell + cell * 0.3, sheet.height - 14, cell * 0.4, (g / size) * 11, standingOf(data.palette, sure ? Math.sign(g) : 0).colour)
  }
}

// the component under a point of the bars, or the given one, and the gain that the point's height stands for
export function barAt(bars, state, x, y, component) {
  const { start, rank } = moduleOf(state)
  const k = component ?? Math.floor((x - bars.left) / bars.cell)
  if (k < 0 || k >= rank) return null
  const sigma = state.sigma[start + k], value = Math.max(0, bars.high * (1 - (y - bars.top) / bars.height))
  const gain = sigma > 0 ? Math.min(state.data.largestGain, Math.round((value / sigma) * 1000) / 1000) : 1
  return { component: k, gain }
}

export function drawGate(sheet, ink, state, gains) {
  const { data, position } = state, { palette } = data, { width, height } = sheet
  const left = 34, bottom = 34, top = 8
  const [low, high] = data.positionRange
  const tallest = Math.max(1.3, Math.min(4, gains.reduce((a, b) => Math.max(a, b), 0) * 1.05))
  const x = (value) => left + ((value - low) / (high - low || 1)) * (width - left - 10)
  const y = (gain) => top + (height - top - bottom) * (1 - Math.min(gain, tallest) / tallest)
  axis(sheet, ink, left, width - 8, y, ticks(tallest))
  sheet.path([[left, y(1)], [width - 8, y(1)]], ink.text, { alpha: 0.4 })
  for (let i = 0; i < gains.length; i++) sheet.rect(x(position[i]) - 1, y(gains[i]) - 1, 2, 2, palette.neutral, 0.35)
  const module = moduleOf(state)
  const mine = Array.from({ length: module.rank }, (_, k) => module.start + k)
  mine.sort((a, b) => position[a] - position[b])
  sheet.path(mine.map((i) => [x(position[i]), y(gains[i])]), ink.accent)
  for (const i of mine) sheet.dot(x(position[i]), y(gains[i]), 3.2, state.picked.has(i - module.start) ? palette.byHand : ink.accent)
  for (const value of [low, (low + high) / 2, high]) sheet.text(Math.min(x(value), width - 16), height - 20, text(value), ink.text, { align: "center" })
  sheet.text((left + width) / 2, height - 5, data.positionLabel, ink.text, { align: "center" })
}

// gains of all modules, layers × components; returns the boxes of the modules
export function drawGains(sheet, ink, state, gains) {
  const { families, modules } = state.data
  const gap = 26, top = 18, panel = (sheet.width - gap * families.length) / families.length
  return families.flatMap((family, f) => {
    const members = modules.filter((module) => module.family === family)
    const left = gap + f * (panel + gap), row = (sheet.height - top - 4) / members.length
    sheet.text(left, 12, family, ink.text)
    return members.map((module, m) => {
      const box = { module, left, top: top + m * row, right: left + panel, bottom: top + (m + 1) * row, cell: panel / module.rank }
      drawModule(sheet, ink, state, gains, box)
      if (m % Math.ceil(members.length / 8) === 0)
        sheet.text(left - 4, box.top + Math.min(row, 12) / 2 + 5, module.layer ?? "–", ink.text, { align: "right" })
      return box
    })
  })
}

function drawModule(sheet, ink, { data, shades, module: shown }, gains, { module, left, top, right, bottom, cell }) {
  const row = bottom - top, thin = (size) => Math.max(size - (size > 5 ? 1 : 0), 1)
  for (let k = 0; k < module.rank; k++) {
    const colour = shades[shadeOf(gains[module.start + k], data.palette.gainOctaves)]
    sheet.rect(left + k * cell, top, thin(cell), thin(row), colour)
  }
  if (module.name === shown) sheet.frame(left - 1, top - 1, right - left + 2, row + 1, ink.text, 2)
}

// which of the 257 shades a gain has: its log₂, cut at the scale's ends
export const shadeOf = (gain, octaves) =>
  Math.round(128 * (1 + Math.min(1, Math.max(-1, Math.log2(Math.max(gain, 1e-6)) / octaves))))

// the component of a module under a point of the map
export function gainAt(boxes, x, y) {
  const box = boxes.find((b) => x >= b.left && x < b.right && y >= b.top && y < b.bottom)
  return box && { module: box.module, component: Math.floor((x - box.left) / box.cell) }
}

function axis(sheet, ink, left, right, y, values) {
  for (const value of values) {
    sheet.path([[left, y(value)], [right, y(value)]], ink.line)
    sheet.text(left - 5, y(value) + 4, text(value), ink.text, { align: "right" })
  }
}
