// The film's figures, painted on any sheet from the state: each in a box { x, y, width, height }.
import { text, ticks } from "../components/sheet.mjs"
import {
  angleCurves, atK, cellAtStep, cellCurve, familyCurve, familyLevels, measureOf, moduleOf, shadeOf, sigmaCurves, withinChance,
} from "./film_state.mjs"

const SMALL = { size: 10.5 }, RIGHT = { ...SMALL, align: "right" }, CENTER = { ...SMALL, align: "center" }
const DOTTED = 6 // px that a cell needs to be marked by a dot
const WIDE = 0.6 // of its size that a bold letter is wide
const QUARTER = 90 // degrees
const FADED = 0.35 // of its colour that a cell within chance keeps
const TALL = 40 // px of a row at most

// where the cells of the map lie: families in rows, layers along
export function mapBox({ data }, { x, y, width, height }) {
  const left = x + 74, top = y + 24, rows = data.families.length, columns = data.layers.length
  const cell = (width - 74 - 8) / columns, row = Math.min(TALL, (height - 24 - 62) / rows)
  return { left, top, cell, row, rows, columns }
}

// the cell under a point; undefined beside the map
export function cellUnder({ left, top, cell, row, rows, columns }, px, py) {
  const i = Math.floor((py - top) / row), j = Math.floor((px - left) / cell)
  return i >= 0 && i < rows && j >= 0 && j < columns ? i * columns + j : undefined
}

// `back` is the page's background as #rrggbb, towards which cells fade
export function drawCells(sheet, ink, state, place) {
  const { data, choice, at } = state, box = mapBox(state, place), { left, top, cell, row, rows, columns } = box
  const title = `Step ${data.steps[at]}: ${titleOf(state)}`
  sheet.text(place.x, place.y + 13, title, ink.text, { size: Math.min(13, place.width / (WIDE * title.length)), bold: true })
  const back = [1, 3, 5].map((n) => parseInt(ink.back.slice(n, n + 2), 16))
  const pixels = new Uint8ClampedArray(rows * columns * 4), dots = []
  for (let n = 0; n < rows * columns; n++) {
    const found = cellAtStep(state, n)
    if (!found) continue
    const marked = choice.marks && withinChance(state, found), shade = state.shades[shadeOf(state, found.value)]
    pixels.set([...shade.map((v, c) => (marked ? v * FADED + back[c] * (1 - FADED) : v)), 255], 4 * n)
    if (marked && Math.min(cell, row) >= DOTTED) dots.push(n)
  }
  sheet.image(left, top, columns * cell, rows * row, columns, rows, pixels)
  for (const n of dots) sheet.dot(left + ((n % columns) + 0.5) * cell, top + (Math.floor(n / columns) + 0.5) * row, 1.1, ink.soft)
  drawMapAxes(sheet, ink, state, box)
  const n = moduleOf(state)?.cell
  if (n !== undefined) sheet.frame(left + (n % columns) * cell - 1, top + Math.floor(n / columns) * row - 1, cell + 2, row + 2, data.palette.chosen, 2.5)
  return box
}

function drawMapAxes(sheet, ink, state, { left, top, cell, row, rows, columns }) {
  const { families, layers } = state.data, bottom = top + rows * row, every = Math.max(1, Math.ceil(22 / cell))
  families.forEach((family, i) => sheet.text(left - 6, top + (i + 0.5) * row + 4, family, ink.text, RIGHT))
  for (let j = 0; j < columns; j += every) sheet.text(left + (j + 0.5) * cell, bottom + 13, layers[j], ink.text, CENTER)
  sheet.text(left + (columns * cell) / 2, bottom + 27, "layer", ink.text, CENTER)
  const { low, high } = measureOf(state), width = Math.min(180, columns * cell), y = bottom + 36
  const pixels = new Uint8ClampedArray(257 * 4)
  state.shades.forEach((shade, n) => pixels.set([...shade, 255], 4 * n))
  sheet.image(left, y, width, 8, 257, 1, pixels)
  sheet.text(left - 6, y + 8, numberOf(state, low), ink.text, RIGHT)
  sheet.text(left + width + 6, y + 8, numberOf(state, high), ink.text, SMALL)
}

export function numberOf(state, value) {
  return `${text(value)}${measureOf(state).unit}`
}

// the measure with what it is of
export function titleOf(state) {
  const { choice } = state, { label, directed, component } = measureOf(state)
  if (!directed) return label
  return `${label}, ${component ? `component ${choice.k}` : `k = ${choice.k}`}, ${choice.side} side`
}

// the means of the families over the steps, the chosen cell beside them, and what random gives
export function drawFamilies(sheet, ink, state, place) {
  const { data } = state, { low, high } = measureOf(state), levels = familyLevels(state), plot = plotOf(state, place, low, high)
  sheet.text(place.x, place.y + 13, "Mean over each family", ink.text, { size: 12.5, bold: true })
  drawChance(sheet, ink, state, plot, levels)
  drawPlotAxes(sheet, ink, state, plot)
  data.families.forEach((_, f) => drawCurve(sheet, plot, familyCurve(state, f), familyLook(data, f)))
  const module = moduleOf(state)
  if (module) drawCurve(sheet, plot, cellCurve(state, module.cell), { colour: data.palette.chosen, thick: 2.4, dash: [1, 3] })
  drawNow(sheet, ink, state, plot)
}

// a family's colour and, when colours start over, another dash
export function familyLook({ palette }, f) {
  const { curves, dashes } = palette
  return { colour: curves[f % curves.length], dash: dashes[Math.floor(f / curves.length) % dashes.length], thick: 1.9 }
}

function drawChance(sheet, ink, state, { left, right, y, low, high }, { random, chance, inside }) {
  if (chance === null) return
  if (inside !== null) sheet.path([[left, y(inside)], [right, y(inside)]], ink.soft, { dash: [1, 3], thick: 1.8 })
  const [from, to] = measureOf(state).small ? [high, chance] : [Math.min(chance, high), low]
  sheet.rect(left, y(from), right - left, Math.max(1, y(to) - y(from)), ink.soft, 0.2)
  sheet.path([[left, y(random)], [right, y(random)]], ink.soft, { dash: [5, 4], thick: 1.4 })
}

// σ of every component of the chosen module
export function drawSigma(sheet, ink, state, place) {
  const found = sigmaCurves(state), high = Math.max(...found.flat().filter((v) => v !== null), 0) || 1
  const plot = plotOf(state, place, 0, 1.05 * high)
  sheet.text(place.x, place.y + 13, `Singular values of ${moduleOf(state).label}`, ink.text, { size: 12.5, bold: true })
  drawPlotAxes(sheet, ink, state, plot)
  found.forEach((curve, k) => {
    const look = componentLook(state, k), end = curve.at(-1)
    drawCurve(sheet, plot, curve, look)
    if (end !== null && k < state.data.palette.curves.length) sheet.text(plot.right + 4, plot.y(end) + 4, k + 1, look.colour, SMALL)
  })
  drawNow(sheet, ink, state, plot)
}

// the angle of every component with the one at the last step that is most like it
export function drawTurns(sheet, ink, state, place) {
  const { data, choice } = state, module = moduleOf(state), side = data.sides.findIndex(([name]) => name === choice.side)
  const plot = plotOf(state, place, 0, QUARTER)
  sheet.text(place.x, place.y + 13, `Angle to the match at the end, ${choice.side} side`, ink.text, { size: 12.5, bold: true })
  if (module.chance) {
    const chance = module.chance[side], random = module.random[side]
    sheet.rect(plot.left, plot.y(QUARTER), plot.right - plot.left, Math.max(1, plot.y(chance) - plot.y(QUARTER)), ink.soft, 0.2)
    sheet.path([[plot.left, plot.y(random)], [plot.right, plot.y(random)]], ink.soft, { dash: [5, 4], thick: 1.4 })
  }
  drawPlotAxes(sheet, ink, state, plot)
  angleCurves(state).forEach((curve, k) => drawCurve(sheet, plot, curve, componentLook(state, k)))
  drawNow(sheet, ink, state, plot)
}

// the leading components have colours of their own, one that is compared is thick
export function componentLook(state, k) {
  const { curves, neutral } = state.data.palette
  return { colour: curves[k] ?? neutral, dash: [], thick: k === atK(state) && measureOf(state).component ? 2.6 : 1.5 }
}

function plotOf(state, { x, y, width, height }, low, high) {
  const left = x + 42, right = x + width - 12, top = y + 24, bottom = y + height - 34
  return { left, right, top, bottom, low, high, y: (v) => bottom - ((bottom - top) * (v - low)) / (high - low || 1), x: xOf(state, left, right) }
}

// steps stand as far apart as they are
export function xOf({ data: { steps } }, left, right) {
  const first = steps[0], length = steps.at(-1) - first
  return (at) => left + ((right - left) * (steps[at] - first)) / length
}

// the step nearest to a point of a plot in a box
export function stepUnder(state, { x, width }, px) {
  const at = xOf(state, x + 42, x + width - 12), far = state.data.steps.map((_, n) => Math.abs(at(n) - px))
  return far.indexOf(Math.min(...far))
}

function drawPlotAxes(sheet, ink, state, { left, right, bottom, low, high, y, x }) {
  for (const value of high === QUARTER ? [0, 30, 60, QUARTER] : ticks(high).filter((v) => v >= low)) {
    sheet.path([[left, y(value)], [right, y(value)]], ink.line)
    sheet.text(left - 5, y(value) + 4, text(value), ink.text, RIGHT)
  }
  let end = -Infinity
  state.data.steps.forEach((step, at) => {
    const half = 3.2 * String(step).length
    if (x(at) - half < end + 6) return
    sheet.text(x(at), bottom + 14, step, ink.text, CENTER)
    end = x(at) + half
  })
  sheet.text((left + right) / 2, bottom + 28, "step", ink.text, CENTER)
}

// a curve breaks where it has no value
function drawCurve(sheet, { x, y }, curve, { colour, dash, thick }) {
  let run = []
  for (const [at, value] of [...curve, null].entries()) {
    if (value !== null) {
      run.push([x(at), y(value)])
      continue
    }
    if (run.length > 1) sheet.path(run, colour, { dash, thick })
    for (const [px, py] of run) sheet.dot(px, py, 2.2, colour)
    run = []
  }
}

function drawNow(sheet, ink, state, { top, bottom, x }) {
  sheet.path([[x(state.at), top], [x(state.at), bottom]], ink.text, { alpha: 0.6 })
}

// all of it on one sheet, for a file
export function drawFilm(sheet, ink, state) {
  const half = sheet.width / 2, most = { x: 8, y: 8, width: sheet.width - 16, height: sheet.height * 0.48 }
  const { top, row, rows } = drawCells(sheet, ink, state, most), upper = top + rows * row + 58, lower = sheet.height - upper
  const bottom = { y: upper, height: lower - 22 }
  drawFamilies(sheet, ink, state, { ...bottom, x: 8, width: half - 8 })
  if (moduleOf(state)) drawSigma(sheet, ink, state, { ...bottom, x: half + 8, width: half - 16 })
  let x = 50
  state.data.families.forEach((family, f) => {
    const { colour, dash } = familyLook(state.data, f)
    sheet.path([[x, sheet.height - 10], [x + 18, sheet.height - 10]], colour, { thick: 2, dash })
    sheet.text(x + 23, sheet.height - 6, family, ink.text, SMALL)
    x += 40 + 6.2 * family.length
  })
  sheet.text(x, sheet.height - 6, "orange: the chosen module's cell · dashed: random, grey: chance level", ink.text, SMALL)
}
