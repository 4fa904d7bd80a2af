// Members against members as a map with their clusters, painted on any sheet from what the server sends.
import { floats, shades, text, ticks } from "../components/sheet.mjs"

export const MARKED = 7 // px that a cell needs to be marked by a dot
const WRITTEN = 36 // px that a cell needs to have its value written into it
const FADED = 0.2 // of its colour that a cell within chance keeps
const LARGEST = 64, TREE = 110, LONGEST = 30, SMALL = { size: 10.5 }

export function decoded(data) {
  const [values, expected, chance, modules] = ["values", "expected", "chance", "modules"].map((name) => floats(data[name]))
  return { ...data, values, expected, chance, modules, shades: shades(data.signed ? data.palette.gains : data.palette.shares) }
}

export function cellOf(state, i, j) {
  const at = i * state.names.length + j, value = state.values[at]
  if (Number.isNaN(value)) return null
  return { value, expected: state.expected[at], chance: state.chance[at], modules: state.modules[at], beyond: Math.abs(value) > state.chance[at] }
}

// which of the 257 shades a value has; a signed one is 0 in the middle
export function shadeOf({ signed, cut }, value) {
  const share = signed ? 0.5 + value / (2 * cut) : value / cut
  return Math.min(256, Math.max(0, Math.round(256 * share)))
}

export const shortName = (name) => (name.length <= LONGEST ? name : `…${name.slice(1 - LONGEST)}`)

// where the map lies on a sheet
export function layout(state, width, height) {
  const n = state.names.length
  const left = 14 + 6.1 * Math.max(...state.names.map((name, i) => `${shortName(name)} ${i + 1}`.length))
  const right = 76 + (state.branches.length ? TREE : 0), top = 26
  const cell = Math.max(1, Math.min(LARGEST, (width - left - right) / n, (height - top - 24) / n))
  return { left, top, cell, n, end: left + n * cell, bottom: top + n * cell }
}

export function hit(box, x, y) {
  const i = Math.floor((y - box.top) / box.cell), j = Math.floor((x - box.left) / box.cell)
  return i >= 0 && j >= 0 && i < box.n && j < box.n ? [i, j] : null
}

export function drawMatrix(sheet, ink, state) {
  const box = layout(state, sheet.width, sheet.height)
  sheet.text(0, 14, state.title, ink.text, { size: 13.5, bold: true })
  drawCells(sheet, ink, state, box)
  drawNames(sheet, ink, state, box)
  if (state.branches.length) drawTree(sheet, ink, state, box)
  drawScale(sheet, ink, state, box)
  if (state.selected) drawSelected(sheet, state, box)
  return box
}

function drawCells(sheet, ink, state, { left, top, cell, n }) {
  const pixels = new Uint8ClampedArray(n * n * 4), back = [1, 3, 5].map((at) => parseInt(ink.back.slice(at, at + 2), 16)), marks = []
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const found = cellOf(state, i, j)
      if (!found) continue
      const shade = state.shades[shadeOf(state, found.value)], faded = !found.beyond
      pixels.set([...(faded ? shade.map((v, c) => v * FADED + back[c] * (1 - FADED)) : shade), 255], 4 * (i * n + j))
      marks.push([i, j, found, shade])
    }
  sheet.image(left, top, n * cell, n * cell, n, n, pixels)
  for (const [i, j, { value, beyond }, shade] of marks) {
    const x = left + (j + 0.5) * cell, y = top + (i + 0.5) * cell
    if (cell >= WRITTEN) sheet.text(x, y + 4, text(Number(value.toFixed(3))), beyond ? contrast(shade, state.palette.print) : ink.text, { align: "center", size: 10.5 })
    if (!beyond && cell >= MARKED) sheet.dot(x, cell >= WRITTEN ? y + 11 : y, 1.2, ink.soft)
  }
}

// dark ink on a light shade, light on a dark one
const contrast = ([r, g, b], { text: dark, back: light }) => (0.3 * r + 0.59 * g + 0.11 * b > 140 ? dark : light)

function drawNames(sheet, ink, state, { left, cell, top, bottom }) {
  const every = Math.max(1, Math.ceil(12 / cell)), columns = Math.max(1, Math.ceil(18 / cell))
  state.names.forEach((name, i) => {
    if (i % every === 0) sheet.text(left - 5, top + (i + 0.5) * cell + 4, `${shortName(name)} ${i + 1}`, state.alone[i] ? ink.soft : ink.text, { ...SMALL, align: "right" })
    if (i % columns === 0) sheet.text(left + (i + 0.5) * cell, bottom + 13, i + 1, state.alone[i] ? ink.soft : ink.text, { ...SMALL, align: "center" })
  })
}

// each branch from where its two groups stand to where they join; heights are distances up to 1, or 2 of signed values
function drawTree(sheet, ink, state, { top, cell, end }) {
  const high = Math.max(...state.branches.map((branch) => branch.height), 1e-9)
  const x = (height) => end + 6 + ((TREE - 16) * height) / high, y = (place) => top + (place + 0.5) * cell
  for (const { places, below, height } of state.branches)
    sheet.path([[x(below[0]), y(places[0])], [x(height), y(places[0])], [x(height), y(places[1])], [x(below[1]), y(places[1])]], ink.soft, { thick: 1.2 })
}

function drawScale(sheet, ink, state, { top, bottom, end }) {
  const x = end + 12 + (state.branches.length ? TREE : 0), height = Math.min(bottom - top, 260), pixels = new Uint8ClampedArray(257 * 4)
  for (let at = 0; at < 257; at++) pixels.set([...state.shades[256 - at], 255], at * 4)
  sheet.image(x, top, 11, height, 1, 257, pixels)
  const marks = state.signed ? [-state.cut, 0, state.cut] : ticks(state.cut)
  for (const value of marks) {
    const share = state.signed ? 0.5 + value / (2 * state.cut) : value / state.cut
    sheet.text(x + 15, top + height * (1 - share) + 4, text(value), ink.text, SMALL)
  }
}

function drawSelected(sheet, { selected, palette, names }, { left, top, cell }) {
  const [i, j] = selected.map((name) => names.indexOf(name))
  if (i >= 0 && j >= 0) sheet.frame(left + j * cell - 1, top + i * cell - 1, cell + 2, cell + 2, palette.chosen, 2.5)
}

export function tipLines(state, i, j) {
  const names = `${state.names[i]} against ${state.names[j]}`, found = cellOf(state, i, j)
  if (!found) return [names, "no module of both has enough directions"]
  const { value, expected, chance, modules, beyond } = found
  if (i === j) return [state.names[i], `with itself: ${value.toFixed(4)}`]
  const random = expected > 0 ? `, ${(value / expected).toFixed(1)} × random` : ""
  return [
    names,
    `${state.label} ${value.toFixed(4)}${random}`,
    beyond ? `beyond the chance level, ${chance.toPrecision(3)}` : `not distinguishable from random, chance level ${chance.toPrecision(3)}`,
    `over ${modules} modules`,
  ]
}

// what the map shows, for those who do not see it
export function matrixLabel(state) {
  const pairs = []
  for (let i = 0; i < state.names.length; i++) for (let j = i + 1; j < state.names.length; j++) pairs.push([i, j, cellOf(state, i, j)])
  const known = pairs.filter(([, , found]) => found).sort((a, b) => b[2].value - a[2].value)
  const strongest = known.slice(0, 3).map(([i, j, found]) => `${state.names[i]} and ${state.names[j]} ${found.value.toFixed(3)}`)
  return `${state.title}: ${state.names.length} adapters. Strongest: ${strongest.join("; ") || "no pair has a value"}`
}

export const legendWords = (state, cell) =>
  [
    `A faded cell${cell >= MARKED ? " with a dot" : ""} is not distinguishable from random: one random pair in a hundred lies beyond its level.`,
    state.alone.some(Boolean) ? "Adapters with a grey name share nothing beyond chance with any other." : "",
    "Click a cell for its numbers; a double click opens the pair on the Geometry page.",
  ].filter(Boolean).join(" ")

