// The maps and the curve over depth, painted on any sheet from the state.
import { text, ticks } from "../components/sheet.mjs"
import { measureOf, panelOf, shadeOf, shownOf, valueOf } from "./state.mjs"

export const DOTTED = 7 // px that a cell needs to be marked by a dot
export const SMALL = { size: 10.5 }, RIGHT = { ...SMALL, align: "right" }, CENTER = { ...SMALL, align: "center" }

// all panels; returns where each lies
export function drawMap(sheet, ink, state) {
  const { panels } = state.table, many = panels.length > 1
  const across = many ? 4 : 1, down = Math.ceil(panels.length / across)
  const width = (sheet.width - 4) / across, height = sheet.height / down
  if (!many) sheet.text(0, 15, panels[0].title, ink.text, { size: 14, bold: true })
  const shades = { full: state.shades, faded: fadedShades(state.shades, ink.back) }
  return panels.map((_, p) => {
    const x = (p % across) * width, y = Math.floor(p / across) * height
    return many ? drawSmall(sheet, ink, state, p, { x, y, width, height }, shades) : drawLarge(sheet, ink, state, p, shades)
  })
}

// towards the page's background, which is #rrggbb here
function fadedShades(shades, background) {
  const back = [1, 3, 5].map((n) => parseInt(background.slice(n, n + 2), 16))
  return shades.map((shade) => shade.map((v, c) => v * 0.35 + back[c] * 0.65))
}

function drawLarge(sheet, ink, state, p, shades) {
  const left = 62, top = 30
  const box = boxOf(state, p, left, top, Math.min(sheet.width - left - 64, sheet.height - top - 44))
  drawCells(sheet, ink, state, box, shades)
  drawAxes(sheet, ink, state, box)
  drawScale(sheet, ink, state, box)
  drawChosen(sheet, state, box)
  return box
}

function drawSmall(sheet, ink, state, p, { x, y, width, height }, shades) {
  const box = boxOf(state, p, x + 20, y + 18, Math.min(width - 26, height - 24)), { left, top, cell, rows } = box
  const panel = state.table.panels[p]
  drawCells(sheet, ink, state, box, shades)
  sheet.text(left, top - 5, panel.title, ink.text, SMALL)
  if (x === 0)
    for (const at of [0, rows - 1]) sheet.text(left - 4, top + (at + 0.5) * cell + 4, panel.ticks.rows[at], ink.text, { align: "right", size: 10 })
  drawChosen(sheet, state, box)
  return box
}

function boxOf(state, p, left, top, room) {
  const panel = state.table.panels[p], rows = panel.rows.length, columns = panel.columns.length
  return { p, left, top, cell: room / Math.max(rows, columns), rows, columns }
}

// panel, row and column under a point
export function cellAt(boxes, x, y) {
  const box = boxes.find((b) => x >= b.left && x < b.left + b.columns * b.cell && y >= b.top && y < b.top + b.rows * b.cell)
  return box && [box.p, Math.floor((y - box.top) / box.cell), Math.floor((x - box.left) / box.cell)]
}

function drawCells(sheet, ink, state, { p, left, top, cell, rows, columns }, { full, faded }) {
  const { table, choice } = state, { codes, reference, chance, cut } = panelOf(state, p)
  const pixels = new Uint8ClampedArray(rows * columns * 4), dots = []
  for (let i = 0, n = 0; i < rows; i++)
    for (let j = 0; j < columns; j++, n++) {
      const value = valueOf(table, codes[n])
      if (value === null) continue
      const random = choice.marks && value <= chance[i]
      const shade = (random ? faded : full)[shadeOf(value, reference[i], cut, choice.ratio)]
      pixels[4 * n] = shade[0]
      pixels[4 * n + 1] = shade[1]
      pixels[4 * n + 2] = shade[2]
      pixels[4 * n + 3] = 255
      if (random && cell >= DOTTED) dots.push([i, j])
    }
  sheet.image(left, top, columns * cell, rows * cell, columns, rows, pixels)
  for (const [i, j] of dots) sheet.dot(left + (j + 0.5) * cell, top + (i + 0.5) * cell, 1.1, ink.soft)
}

function drawChosen(sheet, { data, choice }, { p, left, top, cell, rows, columns }) {
  const [chosen, i, j] = choice.cell ?? []
  if (chosen === p && i < rows && j < columns) sheet.frame(left + j * cell - 1, top + i * cell - 1, cell + 2, cell + 2, data.palette.chosen, 2.5)
}

function drawAxes(sheet, ink, state, box) {
  const panel = state.table.panels[box.p], { left, top, cell, rows, columns } = box
  const bottom = top + rows * cell, right = left + columns * cell
  if (panel.groups) drawGroups(sheet, ink, panel.groups, box)
  else {
    const every = Math.max(1, Math.ceil(14 / cell))
    for (let i = 0; i < rows; i += every) sheet.text(left - 5, top + (i + 0.5) * cell + 4, panel.ticks.rows[i], ink.text, RIGHT)
    for (let j = 0; j < columns; j += every) sheet.text(left + (j + 0.5) * cell, bottom + 14, panel.ticks.columns[j], ink.text, CENTER)
  }
  sheet.text((left + right) / 2, bottom + 32, panel.x, ink.text, { align: "center", size: 12 })
  sheet.text(12, (top + bottom) / 2, panel.y, ink.text, { align: "center", size: 12, turn: -90 })
}

function drawGroups(sheet, ink, groups, { left, top, cell, rows, columns }) {
  const bottom = top + rows * cell, right = left + columns * cell
  for (const { from, to, label } of groups) {
    const middle = ((from + to) / 2) * cell, at = from * cell
    if (from) {
      sheet.path([[left, top + at], [right, top + at]], ink.back, { thick: 1.2 })
      sheet.path([[left + at, top], [left + at, bottom]], ink.back, { thick: 1.2 })
    }
    if ((to - from) * cell < 9) continue
    sheet.text(left - 5, top + middle + 4, label, ink.text, RIGHT)
    sheet.text(left + middle, bottom + 14, label, ink.text, { align: "center", size: (to - from) * cell < 50 ? 8.5 : 10.5 })
  }
}

function drawScale(sheet, ink, state, { p, left, top, cell, rows, columns }) {
  const panel = state.table.panels[p], { cut } = panelOf(state, p), { ratio } = state.choice
  const x = left + columns * cell + 12, height = rows * cell, pixels = new Uint8ClampedArray(257 * 4)
  for (let n = 0; n < 257; n++) pixels.set([...state.shades[256 - n], 255], n * 4)
  sheet.image(x, top, 11, height, 1, 257, pixels)
  const marks = ratio ? [0.5, 1, 2, 4, 8, 16, 32, 64, 128].filter((v) => v <= cut) : ticks(cut)
  for (const value of marks) {
    const share = ratio ? Math.log(value / 0.5) / Math.log(cut / 0.5) : value / cut
    sheet.text(x + 15, top + height * (1 - share) + 4, ratio ? `${value}×` : text(value), ink.text, SMALL)
  }
  sheet.text(x, top - 7, ratio ? "× random" : panel.label[measureOf(state, panel)], ink.text, SMALL)
}

// the curve over depth of the one panel; returns its points as (label, value)
export function drawCurve(sheet, ink, state) {
  const { table } = state, panel = table.panels[0], random = table.random[panel.space[0]]
  const [values, reference, chance] = [panel.curve, random.reference, random.chance].map((both) => shownOf(state, panel, both))
  const left = 40, right = sheet.width - 8, top = 24, bottom = sheet.height - 34
  const high = Math.max(...values.filter((v) => v !== null), chance) * 1.08
  const x = (i) => left + ((right - left) * (i + 0.5)) / values.length, y = (v) => bottom - ((bottom - top) * v) / high
  sheet.text(0, 13, panel.curve.title, ink.text, { size: 12.5, bold: true })
  for (const value of ticks(high)) {
    sheet.path([[left, y(value)], [right, y(value)]], ink.line)
    sheet.text(left - 5, y(value) + 4, text(value), ink.text, RIGHT)
  }
  sheet.rect(left, y(chance), right - left, y(0) - y(chance), ink.soft, 0.18)
  sheet.path([[left, y(reference)], [right, y(reference)]], ink.soft, { dash: [5, 4], thick: 1.4 })
  const known = values.map((v, i) => [v, i]).filter(([v]) => v !== null)
  sheet.path(known.map(([v, i]) => [x(i), y(v)]), ink.accent, { thick: 1.8 })
  for (const [v, i] of known) sheet.dot(x(i), y(v), 2.2, ink.accent)
  const step = Math.max(1, Math.ceil(values.length / 12))
  for (let i = 0; i < values.length; i += step) sheet.text(x(i), bottom + 14, panel.ticks.rows[i], ink.text, CENTER)
  sheet.text((left + right) / 2, bottom + 29, "layer · dashed: random, grey: chance level", ink.text, CENTER)
  return known.map(([v, i]) => [panel.ticks.rows[i], v])
}
