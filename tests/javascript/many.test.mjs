import assert from "node:assert/strict"
import test from "node:test"

import { cellOf, decoded, drawMatrix, hit, layout, legendWords, matrixLabel, shadeOf, shortName, tipLines } from "../../app/many/matrix_figure.mjs"
import { floats, INK, PALETTE, Recording } from "./recording.mjs"

// three members: the first two agree, the third is within chance of both, and has no value with the second
function state(changes = {}) {
  return decoded({
    names: ["a", "b", "c"],
    alone: [false, false, true],
    values: floats([1, 0.8, 0.1, 0.8, 1, NaN, 0.1, NaN, 1]),
    expected: floats(Array(9).fill(0.1)),
    chance: floats(Array(9).fill(0.2)),
    modules: floats(Array(9).fill(4)),
    branches: [
      { places: [0, 1], below: [0, 0], height: 0.2 },
      { places: [0.5, 2], below: [0.2, 0], height: 1 },
    ],
    signed: false,
    cut: 0.8,
    label: "overlap",
    title: "Overlap",
    name: "members",
    selected: null,
    palette: PALETTE,
    ...changes,
  })
}

test("a cell knows its value, what random gives, and whether it is beyond chance", () => {
  const found = cellOf(state(), 0, 1)
  assert.ok(Math.abs(found.value - 0.8) < 1e-6)
  assert.equal(found.beyond, true)
  assert.equal(cellOf(state(), 0, 2).beyond, false)
  assert.equal(cellOf(state(), 1, 2), null)
  assert.equal(cellOf(state({ values: floats(Array(9).fill(-0.5)) }), 0, 1).beyond, true)
})

test("values are shaded up to the cut, signed ones from the middle", () => {
  assert.deepEqual([0, 0.4, 0.8, 1].map((value) => shadeOf(state(), value)), [0, 128, 256, 256])
  assert.deepEqual([-0.8, 0, 0.8].map((value) => shadeOf(state({ signed: true }), value)), [0, 128, 256])
})

test("a pair within chance is faded and dotted, one without a value is left empty", () => {
  const sheet = new Recording(700, 300)
  drawMatrix(sheet, INK, state())
  const { pixels } = sheet.of("image")[0], of = (i, j) => pixels.slice(4 * (3 * i + j), 4 * (3 * i + j) + 4)
  assert.deepEqual(of(0, 1), [255, 255, 255, 255])
  assert.deepEqual(of(1, 2), [0, 0, 0, 0])
  const faded = 0.2 * Math.round(255 * (32 / 256)) + 0.8 * 255
  assert.ok(Math.abs(of(0, 2)[0] - faded) <= 1)
  assert.equal(sheet.of("dot", "SOFT").length, 2)
})

test("names that share nothing beyond chance are grey, and the tree joins at its heights", () => {
  const sheet = new Recording(700, 300)
  drawMatrix(sheet, INK, state())
  const named = Object.fromEntries(sheet.of("text").map((call) => [call.words, call.fill]))
  assert.deepEqual([named["a 1"], named["c 3"]], ["TEXT", "SOFT"])
  const [near, far] = sheet.of("path").map((call) => call.points)
  assert.ok(near[1][0] < far[1][0])
  assert.equal(far[0][0], near[1][0])
  const without = new Recording(700, 300)
  drawMatrix(without, INK, state({ branches: [] }))
  assert.equal(without.of("path").length, 0)
})

test("a point finds its cell, and the chosen pair is framed there", () => {
  const sheet = new Recording(700, 300), box = drawMatrix(sheet, INK, state({ selected: ["a", "c"] }))
  assert.deepEqual(hit(box, box.left + 2.5 * box.cell, box.top + 0.5 * box.cell), [0, 2])
  assert.equal(hit(box, box.left - 1, box.top + 1), null)
  assert.equal(hit(box, box.end + 1, box.top + 1), null)
  const [frame] = sheet.of("frame", "CHOSEN")
  assert.deepEqual(hit(box, frame.x + frame.width / 2, frame.y + frame.height / 2), [0, 2])
  const gone = new Recording(700, 300)
  drawMatrix(gone, INK, state({ selected: ["a", "closed"] }))
  assert.equal(gone.of("frame").length, 0)
})

test("fifty members with long names fit beside their names", () => {
  const names = Array.from({ length: 50 }, (_, i) => `runs/very/long/path/of/a/training/checkpoint-${i}`)
  const many = { ...state(), names, alone: names.map(() => false) }
  const box = layout(many, 1000, 700)
  assert.ok(box.cell > 8)
  assert.ok(box.bottom < 700)
  assert.ok(box.end < 1000)
  assert.equal(shortName(names[0]).length, 30)
  assert.ok(shortName(names[7]).endsWith("checkpoint-7"))
})

test("a tip tells the value, times random and the verdict", () => {
  assert.deepEqual(tipLines(state(), 0, 1).slice(1, 3), ["overlap 0.8000, 8.0 × random", "beyond the chance level, 0.200"])
  assert.match(tipLines(state(), 0, 2)[2], /not distinguishable from random/)
  assert.match(tipLines(state(), 1, 2)[1], /no module of both/)
  assert.equal(tipLines(state({ expected: floats(Array(9).fill(0)) }), 0, 1)[1], "overlap 0.8000")
})

test("who does not see the map is told its strongest pairs, and the legend says what is grey", () => {
  assert.equal(matrixLabel(state()), "Overlap: 3 adapters. Strongest: a and b 0.800; a and c 0.100")
  assert.match(legendWords(state(), 20), /grey name/)
  assert.doesNotMatch(legendWords(state({ alone: [false, false, false] }), 3), /grey name|dot/)
})
