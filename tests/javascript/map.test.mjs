import assert from "node:assert/strict"
import test from "node:test"

import { cellAt, drawCurve, drawMap } from "../../app/geometry/figures.mjs"
import { drawAngles, drawBothSpectra, drawCosines } from "../../app/geometry/pair.mjs"
import { blank, cellOf, chosen, moved, received, shadeOf, told, usesK } from "../../app/geometry/state.mjs"
import { legendWords, mapLabel, numberRows, sharedRows, tipLines } from "../../app/geometry/words.mjs"
import { INK, PALETTE, Recording, shorts } from "./recording.mjs"

const UNIT = 100, UNKNOWN = 999
const CHOICE = { view: "invariance", measure: "overlap", k: 2, ratio: false, marks: true, cell: null }
const SUMMARY = { mean: 0.5, ratio: 5, above: 1, cells: 3, where: "of all pairs" }

// one map of two modules at k = 1 and 2, the second pair of which has no value
function panel(changes = {}) {
  return {
    title: "o_proj across layers",
    measure: "",
    same: true,
    label: { overlap: "overlap", principal: "|cosine|" },
    x: "layer",
    y: "layer",
    rows: ["layer 0", "layer 1"],
    columns: ["layer 0", "layer 1"],
    ticks: { rows: ["0", "1"], columns: ["0", "1"] },
    groups: null,
    space: [0, 1],
    principal: shorts([100, 40, 40, 100]),
    overlap: shorts([100, 10, 20, 100, 100, 50, UNKNOWN, 100]),
    cut: { principal: { value: 0.8, ratio: 4 }, overlap: [{ value: 0.25, ratio: 2 }, { value: 0.5, ratio: 5 }] },
    curve: { title: "with all others", principal: [0.4, 0.4], overlap: [[0.1, 0.2], [0.5, null]] },
    summary: { principal: { ...SUMMARY, mean: 0.4 }, overlap: [{ ...SUMMARY, mean: null, ratio: null }, SUMMARY] },
    ...changes,
  }
}

const random = (reference, chance) => ({
  reference: { principal: reference, overlap: [reference, reference] },
  chance: { principal: chance, overlap: [chance, chance] },
})

function sent(changes = {}, panels = [panel()]) {
  const table = { key: "numbers", ks: [1, 2], unit: UNIT, unknown: UNKNOWN, random: [random(0.1, 0.6), random(0.2, 0.3)], panels }
  return { choice: CHOICE, serial: 0, detail: null, level: 0.01, legend: "Cut.", palette: PALETTE, table, ...changes }
}

const start = (changes, panels) => received(blank(), sent(changes, panels))

test("a cell is read in the unit that the table names, beside what random gives in its row", () => {
  const state = start()
  assert.deepEqual(cellOf(state, 0, 0, 1), { value: 0.5, reference: 0.1, chance: 0.6 })
  assert.deepEqual(cellOf(state, 0, 1, 1), { value: 1, reference: 0.2, chance: 0.3 })
  assert.equal(cellOf(state, 0, 1, 0), null)
  assert.equal(cellOf(state, 0, 2, 0), null)
  assert.equal(cellOf(chosen(state, { k: 1 }), 0, 1, 0).value, 0.2)
  assert.equal(cellOf(chosen(state, { measure: "principal" }), 0, 1, 0).value, 0.4)
})

test("a panel with a measure of its own keeps it whatever is chosen", () => {
  const state = start({}, [panel({ measure: "principal" })])
  assert.equal(cellOf(state, 0, 0, 1).value, 0.4)
  assert.deepEqual([usesK(state), usesK(chosen(state, { measure: "principal" })), usesK(chosen(state, { measure: "principal", view: "wall" }))], [true, false, true])
})

test("values are coloured up to the cut that the server names, ratios by their log from half of random", () => {
  assert.deepEqual([0, 0.25, 0.5, 1].map((value) => shadeOf(value, 0.1, 0.5, false)), [0, 128, 256, 256])
  assert.deepEqual([0.01, 0.05, 0.1, 0.2, 0.9].map((value) => shadeOf(value, 0.1, 2, true)), [0, 0, 128, 256, 256])
  const sheet = new Recording(), state = start({ choice: { ...CHOICE, marks: false } })
  drawMap(sheet, INK, state)
  const { pixels } = sheet.of("image")[0]
  assert.deepEqual(pixels.slice(0, 8), [255, 255, 255, 255, 255, 255, 255, 255]) // 1 and 0.5, cut at 0.5
  assert.equal(pixels[11], 0) // no value, no colour
})

test("a cell that random gives as well is faded, and dotted where there is room", () => {
  const sheet = new Recording(), state = start()
  const boxes = drawMap(sheet, { ...INK, back: "#000000" }, state)
  assert.deepEqual(sheet.of("image")[0].pixels.slice(4, 7), [89, 89, 89]) // 0.5 lies under its row's 0.6
  assert.equal(sheet.of("dot", "SOFT").length, 1)
  assert.match(legendWords(state, true), /^Dotted, faded cells .* 1 % per cell\)\. Cut\.$/)
  assert.equal(legendWords(chosen(state, { marks: false }), true), "Cut.")
  const { left, top, cell } = boxes[0]
  assert.deepEqual(cellAt(boxes, left + 1.5 * cell, top + 0.5 * cell), [0, 0, 1])
  assert.equal(cellAt(boxes, left - 1, top), undefined)
})

test("the chosen cell is framed and told", () => {
  const sheet = new Recording(), state = start({ choice: { ...CHOICE, cell: [0, 0, 1] } })
  const [box] = drawMap(sheet, INK, state), [frame] = sheet.of("frame", "CHOSEN")
  assert.equal(frame.x, box.left + box.cell - 1)
  assert.match(mapLabel(state), /layer 0, layer 1: 0\.500, 5\.0 times random/)
  assert.deepEqual(tipLines(state, 0, 0, 1), ["layer 0", "layer 1", "overlap 0.500 · 5.0 × random", "not distinguishable from random"])
  assert.match(tipLines(state, 0, 1, 0)[2], /^no value/)
})

test("many panels stand four in a row, each with its own cut and title", () => {
  const panels = Array.from({ length: 6 }, (_, n) => panel({ title: `map ${n}`, measure: n % 2 ? "overlap" : "principal" }))
  const sheet = new Recording(), boxes = drawMap(sheet, INK, start({}, panels))
  assert.deepEqual(boxes.map(({ left, top }) => [left === boxes[0].left, top === boxes[0].top]).filter(([first, upper]) => first && !upper), [[true, false]])
  assert.ok(panels.every(({ title }) => sheet.words.includes(title)))
  assert.equal(sheet.of("image").length, 6)
  assert.equal(numberRows(start({}, panels)), null)
})

test("the numbers beside the map are those of the measure and k that are shown", () => {
  const state = start()
  assert.deepEqual(numberRows(state).map(([, value]) => value), ["0.500", "5.0×", "1 of 3", "0.0"])
  assert.deepEqual(numberRows(chosen(state, { k: 1 })).map(([, value]) => value).slice(0, 2), ["–", "–"])
  assert.equal(numberRows(chosen(state, { measure: "principal" }))[0][1], "0.400")
})

test("the curve leaves out what has no value", () => {
  const sheet = new Recording(), points = drawCurve(sheet, INK, start())
  assert.deepEqual(points, [["0", 0.5]])
  assert.equal(sheet.of("dot", "ACCENT").length, 1)
  assert.deepEqual(drawCurve(new Recording(), INK, start({ choice: { ...CHOICE, k: 1 } })), [["0", 0.1], ["1", 0.2]])
})

test("arrow keys move the chosen cell inside its panel", () => {
  const state = start()
  const right = moved(state, "ArrowRight")
  assert.deepEqual(right.choice.cell, [0, 0, 0])
  assert.deepEqual(moved(moved(right, "ArrowRight"), "ArrowRight").choice.cell, [0, 0, 1])
  assert.deepEqual(moved(right, "ArrowDown").choice.cell, [0, 1, 0])
  assert.equal(moved(state, "a"), null)
  assert.equal(moved(received(blank(), sent({ table: null })), "ArrowUp"), null)
})

test("an older answer changes no choice, and none takes back what was not told yet", () => {
  const asked = told(chosen(start(), { k: 1 }))
  assert.deepEqual([asked.words.k, asked.words.serial, asked.words.have], [1, 1, "numbers"])
  assert.equal(received(asked, sent()).choice.k, 1)
  assert.equal(received(asked, sent({ serial: 1, detail: "pair" })).detail, "pair")
  const again = received(chosen(asked, { ratio: true }), sent({ serial: 1, table: null }))
  assert.deepEqual([again.choice.ratio, again.choice.k, again.table.key], [true, 1, "numbers"])
})

test("the figures of a pair hold its angles, both spectra in two colours, and its cosines", () => {
  const detail = {
    angles: [30, 60],
    random: [80, 85],
    similarity: [[1, 0.5], [0, 0.25]],
    left: { label: "a", sigma: [4, 2] },
    right: { label: "b", sigma: [1] },
    shared: [["3", 0.5, -0.25, null], ["5", 1, 1, 0.126]],
  }
  const angles = new Recording(), both = new Recording(), cosines = new Recording(), shades = start().shades
  drawAngles(angles, INK, detail)
  const [low, high] = angles.of("rect", "ACCENT")
  assert.ok(Math.abs(high.height / low.height - 2) < 1e-9)
  drawBothSpectra(both, INK, detail, PALETTE)
  assert.deepEqual([both.of("rect", "LEFT").length, both.of("rect", "RIGHT").length], [2, 1])
  assert.ok(Math.abs(both.of("rect", "LEFT")[0].height / both.of("rect", "RIGHT")[0].height - 4) < 1e-9)
  drawCosines(cosines, INK, detail, shades)
  assert.deepEqual(cosines.of("image")[0].pixels.filter((_, n) => n % 4 === 0), [255, 128, 0, 64])
  assert.deepEqual(sharedRows(detail), [["3", "0.500", "-0.250", "–"], ["5", "1.000", "1.000", "13 %"]])
})
