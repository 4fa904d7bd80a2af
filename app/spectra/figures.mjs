// The figures of spectra, painted on any sheet: the screen's canvas, a picture, an SVG. A figure is painted
// into `box` from the model `m` and the choice `c`; `live` adds what belongs to the hand alone. Each returns
// what lies under a point: {module, component, lines}.
import { ticks } from "../components/sheet.mjs"
import { axisLeft, clipped, ends, extent, legend, logTicks, scaleOf, standingBar } from "./marks.mjs"
import { isMeasured } from "./model.mjs"
import { PER_SIGMA, small, told } from "./words.mjs"

// every component of every module: a row for a family, a column for a layer
export function drawAll(sheet, ink, box, m, c, live) {
  const { rows, columns } = m.data
  const longest = Math.min(15, Math.max(...rows.map((row) => row.length), 4))
  const left = box.x + 16 + longest * 6.4, top = box.y + 24, right = box.x + box.width - 2
  const grid = {
    left, top, right,
    wide: (right - left) / Math.max(columns.length, 1),
    high: (box.y + box.height - 34 - top) / Math.max(rows.length, 1),
  }
  const values = m[c.show], log = c.scale === "log" && (c.show === "sigma" || c.show === "magnitude")
  const isShare = ["energy", "share", "functional"].includes(c.show), each = c.range === "each" && !isShare
  const same = ends(isShare ? { low: 0, high: 1, least: 0 } : extent(values, 0, values.length), log)
  drawGrid(sheet, ink, box, m.data, grid)
  for (const module of m.modules) {
    const scale = each ? ends(extent(values, module.start, module.start + module.rank), log) : same
    drawCell(sheet, ink, m, values, module, grid, { scale, log, chosen: live && module.name === c.module ? c.component : null })
  }
  const end = legend(sheet, ink, m, left, box.y + 12, (grid.wide * 0.9) / (m.modules[0]?.rank ?? 1))
  const unit = c.show === "mean" || c.show === "magnitude" ? ` ${PER_SIGMA}` : ""
  const height = each ? "each module to its own largest" : `${small(same[0])} to ${small(same[1])}${unit}${log ? ", log" : ""}`
  sheet.text(Math.max(end, box.x + box.width - 4), box.y + 12, `height: ${height}`, ink.text, { align: "right" })
  return (x, y) => underGrid(m, grid, x, y)
}

function drawGrid(sheet, ink, box, { rows, columns }, { left, top, right, wide, high }) {
  rows.forEach((row, at) => {
    sheet.rect(left, top + at * high, right - left, 0.6, ink.line)
    sheet.text(left - 8, top + (at + 0.5) * high + 4, clipped(row), ink.text, { align: "right" })
  })
  const every = Math.ceil(26 / wide), bottom = box.y + box.height
  columns.forEach((column, at) => {
    if (at % every === 0) sheet.text(left + (at + 0.5) * wide, bottom - 20, column, ink.text, { align: "center" })
  })
  const what = columns.some(Boolean) ? "layer; in each cell components by falling σ" : "modules; in each cell components by falling σ"
  sheet.text((left + box.x + box.width) / 2, bottom - 4, what, ink.text, { align: "center" })
}

// the bars of one module; `chosen` is the component in hand, null where another module is
function drawCell(sheet, ink, m, values, module, { left, top, wide, high }, { scale: [low, most], log, chosen }) {
  const x = left + module.column * wide + wide * 0.05, y = top + module.row * high
  const place = scaleOf(low, most, log, y + 5, y + high - 3), zero = place(log ? low : 0)
  const step = (wide * 0.9) / module.rank, width = step > 3 ? step - 0.8 : step
  sheet.rect(x, zero, wide * 0.9, 0.6, ink.line)
  for (let k = 0; k < module.rank; k++) {
    const value = values[module.start + k]
    if (Number.isFinite(value) && value !== 0)
      standingBar(sheet, ink, m, module.start + k, { x: x + k * step, width, from: zero, to: place(value) })
  }
  if (chosen === null) return
  sheet.frame(x - 1.5, y + 1.5, wide * 0.9 + 3, high - 2, ink.accent, 2)
  sheet.rect(x + chosen * step, y + high - 3, Math.max(step, 2), 3, ink.accent)
}

function underGrid(m, { left, top, wide, high }, x, y) {
  const column = Math.floor((x - left) / wide), row = Math.floor((y - top) / high)
  const module = m.at.get(`${row} ${column}`)
  if (!module) return null
  const part = (x - left - column * wide - wide * 0.05) / (wide * 0.9)
  const component = Math.max(0, Math.min(module.rank - 1, Math.floor(part * module.rank)))
  return { module, component, lines: told(m, module, component) }
}

// one module: σ with the share of energy, and what was measured of it in panels below
export function drawOne(sheet, ink, box, m, c, live) {
  const module = m.byName.get(c.module), { start, rank } = module
  const left = box.x + 56, right = box.x + box.width - 44, cell = (right - left) / rank
  const plot = { left, right, cell, start, rank, mid: (k) => left + (k + 0.5) * cell }
  const log = c.scale === "log", logged = log ? ", log" : ""
  const [first, second, third, fourth] = panelsOf(box, isMeasured(m, start) ? [0.37, 0.28, 0.11, 0.24] : [1])
  const title = (panel, words) => sheet.text(left, panel.top - 7, words, ink.text, { bold: true })
  if (live) sheet.rect(left + c.component * cell, box.y + 20, cell, box.height - 58, ink.accent, 0.13)
  drawPanel(sheet, ink, m, plot, first, { values: m.sigma, log })
  title(first, `σ (bars${logged})`)
  drawEnergy(sheet, ink, m, plot, first)
  if (second) {
    drawPanel(sheet, ink, m, plot, second, { values: m.mean, errors: m.error })
    title(second, `mean g = ∂loss/∂σ, ${PER_SIGMA}, ± one standard error`)
    drawAgreement(sheet, ink, m, plot, third)
    title(third, "sign agreement, share of examples (dashed: a coin's 50 %)")
    drawPanel(sheet, ink, m, plot, fourth, { values: m.magnitude, errors: m.magnitudeError, log })
    title(fourth, `mean |g|, ${PER_SIGMA}, ± one standard error${logged}`)
  }
  legend(sheet, ink, m, left, box.y + 10)
  const every = Math.max(1, Math.ceil(22 / cell)), bottom = box.y + box.height
  for (let k = 0; k < rank; k += every) sheet.text(plot.mid(k), bottom - 20, k, ink.text, { align: "center" })
  sheet.text((left + right) / 2, bottom - 4, "component, by falling σ", ink.text, { align: "center" })
  return (x) => {
    const component = Math.floor((x - left) / cell)
    return component < 0 || component >= rank ? null : { module, component, lines: told(m, module, component) }
  }
}

// panels one under another, `parts` of the room each
function panelsOf(box, parts) {
  const head = 20, foot = 36, room = box.height - foot - 18
  let y = box.y + 18
  return parts.map((part) => {
    const panel = { top: y + head, bottom: y + part * room - 4 }
    y += part * room
    return panel
  })
}

function drawPanel(sheet, ink, m, { left, right, cell, start, rank, mid }, panel, { values, errors = null, log = false }) {
  let [low, high] = ends(extent(values, start, start + rank, errors), log, 8)
  if (!log) high *= 1.06 // a little air under the panel's title
  const place = scaleOf(low, high, log, panel.top, panel.bottom), zero = place(log ? low : 0)
  axisLeft(sheet, ink, left, right, place, log ? logTicks(low, high) : bothWays(low, high, panel.bottom - panel.top < 70))
  sheet.path([[left, zero], [right, zero]], ink.soft)
  const width = Math.max(cell * 0.72, 0.8), inset = (cell - width) / 2
  for (let k = 0; k < rank; k++) {
    const value = values[start + k], error = errors?.[start + k]
    if (!Number.isFinite(value)) continue
    standingBar(sheet, ink, m, start + k, { x: left + k * cell + inset, width, from: zero, to: place(value) })
    if (Number.isFinite(error)) drawError(sheet, ink, mid(k), place(value + error), place(value - error), Math.min(3, width / 3))
  }
}

// ticks to both sides of 0, every other one where there is `little` room
function bothWays(low, high, little) {
  const size = Math.max(high, -low), found = ticks(size).filter((_, n) => !little || n % 2 === 0)
  return [...found.slice(1).map((v) => -v), ...found].filter((v) => v >= low - 1e-12 * size && v <= high + 1e-12 * size)
}

function drawError(sheet, ink, x, up, down, cap) {
  sheet.path([[x, up], [x, down]], ink.text)
  sheet.path([[x - cap, up], [x + cap, up]], ink.text)
  sheet.path([[x - cap, down], [x + cap, down]], ink.text)
}

// the running share of energy over the bars of σ
function drawEnergy(sheet, ink, m, { left, right, cell, start, rank, mid }, panel) {
  const share = scaleOf(0, 1, false, panel.top, panel.bottom), colour = m.palette.energy
  const points = Array.from({ length: rank }, (_, k) => [mid(k), share(m.energy[start + k])])
  sheet.path(points, colour, { thick: 2 })
  if (cell > 7) for (const [x, y] of points) sheet.dot(x, y, 2.4, colour)
  for (const mark of [0, 0.5, 0.9, 1]) sheet.text(right + 6, share(mark) + 4, `${Math.round(100 * mark)} %`, ink.text)
  sheet.path([[left, share(0.9)], [right, share(0.9)]], colour, { dash: [3, 3], alpha: 0.7 })
  sheet.text(right, panel.top - 7, "cumulative energy, share of Σσ² (line)", ink.text, { align: "right", bold: true })
}

function drawAgreement(sheet, ink, m, { left, right, cell, start, rank, mid }, panel) {
  const agree = scaleOf(0, 1, false, panel.top, panel.bottom)
  for (const mark of [0, 0.5, 1]) {
    sheet.path([[left, agree(mark)], [right, agree(mark)]], ink.line, mark === 0.5 ? { dash: [3, 3] } : {})
    if (mark !== 0.5) sheet.text(left - 5, agree(mark) + 4, `${100 * mark} %`, ink.text, { align: "right" })
  }
  for (let k = 0; k < rank; k++) {
    const share = m.agreement[start + k]
    if (Number.isFinite(share)) sheet.dot(mid(k), agree(share), cell > 8 ? 3 : 1.6, ink.text)
  }
}
