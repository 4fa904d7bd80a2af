// The figures of the pair that is chosen on the map.
import { text, ticks } from "../components/sheet.mjs"
import { CENTER, RIGHT, SMALL } from "./figures.mjs"

export function drawAngles(sheet, ink, { angles, random }) {
  const [x, y, cell] = drawPlot(sheet, ink, { title: "Principal angles", unit: "°", high: 90, marks: [0, 45, 90], count: angles.length })
  angles.forEach((angle, i) => sheet.rect(x(i) + cell * 0.2, y(angle), cell * 0.6, Math.max(1, y(0) - y(angle)), ink.accent))
  random.forEach((angle, i) => sheet.path([[x(i), y(angle)], [x(i) + cell, y(angle)]], ink.text, { thick: 1.5, dash: [3, 2] }))
}

export function drawBothSpectra(sheet, ink, { left, right }, palette) {
  const high = Math.max(...left.sigma, ...right.sigma) * 1.05, count = Math.max(left.sigma.length, right.sigma.length)
  const title = `σ: ${left.label} (blue), ${right.label} (teal)`
  const [x, y, cell] = drawPlot(sheet, ink, { title, unit: "", high, marks: ticks(high), count })
  ;[[left, 0.08], [right, 0.52]].forEach(([side, shift], n) =>
    side.sigma.forEach((s, i) => sheet.rect(x(i) + cell * shift, y(s), cell * 0.4, y(0) - y(s), palette.pair[n])))
}

export function drawCosines(sheet, ink, { similarity, right }, shades) {
  sheet.text(0, 12, "|cosine| of single components", ink.text, { size: 12, bold: true })
  const rows = similarity.length, columns = similarity[0].length
  const size = Math.min((sheet.width - 120) / columns, (sheet.height - 40) / rows), pixels = new Uint8ClampedArray(rows * columns * 4)
  similarity.forEach((row, i) => row.forEach((v, j) => pixels.set([...shades[Math.round(256 * Math.min(1, v))], 255], (i * columns + j) * 4)))
  sheet.image(26, 22, columns * size, rows * size, columns, rows, pixels)
  sheet.text(20, 22 + size, "0", ink.text, RIGHT)
  sheet.text(20, 22 + rows * size, rows - 1, ink.text, RIGHT)
  sheet.text(26, 22 + rows * size + 13, `components 0 … ${columns - 1} of ${right.label}`, ink.text, SMALL)
  sheet.text(34 + columns * size, 34, `largest ${Math.max(...similarity.flat()).toFixed(2)}`, ink.text, SMALL)
}

// title and axes of a plot over components; returns x of a component, y of a value, and a component's width
function drawPlot(sheet, ink, { title, unit, high, marks, count }) {
  const left = 40, right = sheet.width - 6, top = 20, bottom = sheet.height - 18
  sheet.text(0, 12, title, ink.text, { size: 12, bold: true })
  const y = (v) => bottom - ((bottom - top) * v) / high, cell = (right - left) / count
  for (const value of marks) {
    sheet.path([[left, y(value)], [right, y(value)]], ink.line)
    sheet.text(left - 5, y(value) + 4, text(value) + unit, ink.text, RIGHT)
  }
  for (let i = 0; i < count; i += Math.ceil(count / 16)) sheet.text(left + (i + 0.5) * cell, bottom + 13, i, ink.text, CENTER)
  return [(i) => left + i * cell, y, cell]
}
