import assert from "node:assert/strict"
import test from "node:test"

import { cellUnder, drawCells, drawFamilies, drawFilm, drawSigma, drawTurns, mapBox, stepUnder } from "../../app/many/film_figures.mjs"
import {
  advanced, angleCurves, blank, cellAtStep, cellCurve, chosen, familyCurve, familyLevels, keyed, matches, moduleIn, played, received, shadeOf, sigmaCurves,
  stood, withinChance,
} from "../../app/many/film_state.mjs"
import { legendWords, mapLabel, matchWords, stepWords, tipLines } from "../../app/many/film_words.mjs"
import { INK, PALETTE, Recording, bytes, floats, shorts } from "./recording.mjs"

const MEASURES = [
  { name: "last", label: "Overlap with the last", unit: "", low: 0, high: 1, small: false, directed: true, component: false, note: "At the end it is 1." },
  { name: "angle", label: "Turn", unit: "°", low: 0, high: 90, small: true, directed: true, component: true, note: "" },
  { name: "norm", label: "Size", unit: "", low: 0, high: 8, small: false, directed: false, component: false, note: "" },
]
const variant = (cells, families, [random, chance]) => ({
  cells: floats(cells),
  families: floats(families),
  cellRandom: floats([random, random, random, random]),
  cellChance: floats([chance, chance, chance, chance]),
  familyRandom: floats([random, random]),
  familyChance: floats([chance, chance / 2]),
  familyInside: floats([0.5, NaN]),
})
const level = (from) => variant([from, from, from, NaN, 1, 1, 1, NaN, 1, 1, 1, NaN], [from, from, 1, 1, 1, NaN], [0.1, 0.4])

// two families in two layers over steps 10, 20 and 40; down of layer 1 does not exist. Two sides, k = 1 and 2.
function sent(changes = {}) {
  return {
    key: "training",
    name: "kinship",
    steps: [10, 20, 40],
    families: ["o", "down"],
    layers: ["0", "1"],
    counts: [1, 1, 2, 0],
    ks: [1, 2],
    k: 2,
    sides: [["output", "Output"], ["input", "Input"]],
    measures: MEASURES,
    values: {
      last: [0.2, 0.3, 0.5, 0.6].map(level),
      angle: [1, 2, 3, 4].map((n) => variant(Array(12).fill(10 * n), Array(6).fill(10 * n), [70, 30])),
      norm: [variant([2, 4, 6, NaN, 2, 4, 6, NaN, 4, 8, 6, NaN], [3, 6, 3, 6, 6, 6], [NaN, NaN])],
    },
    modules: [
      { name: "m.o.0", label: "layer 0 · o", cell: 0, rank: 2, start: 0, random: [80, 70], chance: [60, 50] },
      { name: "m.down.0", label: "layer 0 · down", cell: 2, rank: 1, start: 6, random: [80, 70], chance: [60, 50] },
    ],
    sigma: floats([2, 1, 3, 2, NaN, NaN, 5, 6, 7]),
    angles: [floats([10, 20, 5, 6, NaN, NaN, 1, 2, 0]), floats([30, 40, 7, 8, NaN, NaN, 3, 4, 0])],
    match: shorts([1, 0, 0, 1, 65535, 65535, 0, 0, 0]),
    degenerate: bytes([0, 1, 0, 0, 0, 0, 0, 0, 0]),
    palette: PALETTE,
    file: null,
    ...changes,
  }
}

const start = (changes) => received(blank(), sent(changes))
const PLACE = { x: 0, y: 0, width: 600, height: 300 }

test("a value is that of the chosen measure, side, k and step", () => {
  const state = start()
  const close = (value, expected) => assert.ok(Math.abs(value - expected) < 1e-6, `${value} is not ${expected}`)
  close(cellAtStep(state, 0).value, 0.3) // the k that the server proposes
  close(cellAtStep(chosen(state, { k: 1 }), 0).value, 0.2)
  close(cellAtStep(chosen(state, { side: "input", k: 1 }), 0).value, 0.5)
  close(cellAtStep(chosen(state, { side: "input" }), 0).value, 0.6)
  close(cellAtStep(stood(state, 1), 0).value, 1)
  assert.equal(cellAtStep(state, 3), null)
  const size = chosen(state, { measure: "norm", side: "input", k: 1 })
  assert.deepEqual(cellAtStep(size, 1), { value: 4, random: null, chance: null })
  assert.deepEqual(cellCurve(size, 1), [4, 4, 8])
  assert.deepEqual(familyCurve(chosen(state, { k: 1 }), 1).map((v) => v && Number(v.toFixed(3))), [0.2, 1, null])
})

test("an overlap is within chance below its level, an angle above it, a size never", () => {
  const state = start(), angle = chosen(state, { measure: "angle" })
  assert.equal(withinChance(state, cellAtStep(state, 0)), true)
  assert.equal(withinChance(state, cellAtStep(stood(state, 1), 0)), false)
  assert.equal(withinChance(angle, { value: 20, chance: 30 }), false)
  assert.equal(withinChance(angle, { value: 40, chance: 30 }), true)
  const size = chosen(state, { measure: "norm" })
  assert.equal(withinChance(size, cellAtStep(size, 0)), false)
  // the strictest of the families
  assert.ok(Math.abs(familyLevels(state).chance - 0.4) < 1e-6)
  assert.equal(familyLevels(angle).chance, 15)
  assert.deepEqual(familyLevels(size), { random: null, chance: null, inside: null })
  // A keeps most of the span it starts with, B starts from nothing
  assert.deepEqual([familyLevels(state).inside, familyLevels(chosen(state, { side: "input" })).inside], [null, 0.5])
})

test("the film plays from where it stands to its end, stops there, and starts over", () => {
  const playing = played(stood(start(), 1))
  assert.deepEqual([playing.playing, playing.at], [true, 1])
  const end = advanced(playing)
  assert.deepEqual([end.playing, end.at], [false, 2])
  assert.deepEqual([played(end).playing, played(end).at], [true, 0])
  assert.equal(played(playing).playing, false)
})

test("arrow keys change the step and the module within their ends, space plays, other keys do nothing", () => {
  const state = start(), pressed = (...keys) => keys.reduce(keyed, state)
  assert.equal(pressed("ArrowRight", "ArrowRight", "ArrowRight").at, 2)
  assert.equal(pressed("ArrowRight", "ArrowLeft", "ArrowLeft").at, 0)
  assert.deepEqual([pressed("End").at, pressed("End", "Home").at], [2, 0])
  assert.equal(pressed("ArrowDown", "ArrowDown").choice.module, 1)
  assert.equal(pressed("ArrowDown", "ArrowUp", "ArrowUp").choice.module, 0)
  assert.equal(pressed(" ").playing, true)
  assert.equal(pressed(" ", "ArrowRight").playing, false)
  assert.equal(keyed(state, "a"), null)
})

test("an answer about the same training keeps what is chosen, another one starts anew", () => {
  const state = chosen(stood(start(), 2), { measure: "norm" })
  const same = received(state, sent({ file: { asked: "1" } }))
  assert.deepEqual([same.at, same.choice.measure, same.data.file], [2, "norm", { asked: "1" }])
  const other = received(state, sent({ key: "another", ks: [1] }))
  assert.deepEqual([other.at, other.choice.measure, other.choice.k], [0, "last", 1])
})

test("curves of a module's components are its own, without directions that mean nothing", () => {
  const state = start(), down = chosen(state, { module: 1, side: "input" })
  assert.deepEqual(sigmaCurves(state), [[2, 3, null], [1, 2, null]])
  assert.deepEqual(angleCurves(state), [[10, 5, null], [null, 6, null]])
  assert.deepEqual([sigmaCurves(down), angleCurves(down)], [[[5, 6, 7]], [[3, 4, 0]]])
  assert.deepEqual(matches(state), [2, 1])
  assert.match(matchWords(state), /number 2 is most like component 1, number 1 is most like component 2/)
  assert.match(matchWords(stood(state, 1)), /its own number/)
  assert.match(matchWords(stood(state, 2)), /No component has a match/)
})

test("colours stand for the same value at every step", () => {
  const state = start(), angle = chosen(state, { measure: "angle" })
  assert.deepEqual([0, 0.5, 1, 2].map((value) => shadeOf(state, value)), [0, 128, 256, 256])
  assert.deepEqual([45, 90].map((value) => shadeOf(angle, value)), [128, 256])
})

test("the map paints families by layers, fades what is within chance and frames the module's cell", () => {
  const sheet = new Recording(), state = start(), box = drawCells(sheet, { ...INK, back: "#000000" }, state, PLACE)
  const [map] = sheet.of("image")
  assert.deepEqual([map.columns, map.rows], [2, 2])
  assert.equal(map.pixels[0], Math.round(Math.round((256 * 0.3) / 256 * 255) * 0.35))
  assert.equal(map.pixels[4 * 3 + 3], 0) // no value, no colour
  assert.equal(sheet.of("dot", "SOFT").length, 3)
  const [frame] = sheet.of("frame", "CHOSEN")
  assert.deepEqual([frame.x, frame.y], [box.left - 1, box.top - 1])
  assert.ok(sheet.words.includes("Step 10: Overlap with the last, k = 2, output side"))
  const plain = new Recording()
  drawCells(plain, INK, chosen(state, { marks: false }), PLACE)
  assert.equal(plain.of("dot").length, 0)
  assert.deepEqual(mapBox(state, PLACE), box)
  assert.equal(cellUnder(box, box.left + 1.5 * box.cell, box.top + 0.5 * box.row), 1)
  assert.equal(cellUnder(box, box.left - 1, box.top), undefined)
  assert.deepEqual([moduleIn(state, 2), moduleIn(state, 1), moduleIn(state, undefined)], [1, undefined, undefined])
})

test("curves over the steps have chance behind them and a line where the film stands", () => {
  const sheet = new Recording(), state = stood(start(), 1)
  drawFamilies(sheet, INK, state, PLACE)
  const now = sheet.of("path", "TEXT")[0], chance = sheet.of("rect", "SOFT")[0]
  assert.deepEqual(sheet.of("path", "CURVE 0")[0].points.length, 3)
  assert.deepEqual(sheet.of("path", "CURVE 1")[0].points.length, 2) // no value at the end
  // steps stand as far apart as they are: 10, 20, 40
  const [a, b, c] = sheet.of("path", "CURVE 0")[0].points.map(([x]) => x)
  assert.ok(Math.abs((c - b) / (b - a) - 2) < 1e-9)
  assert.equal(now.points[0][0], b)
  assert.ok(Math.abs(chance.height / (sheet.height - 58) - 0.4) < 1e-6)
  assert.equal(stepUnder(state, PLACE, b + 1), 1)
  assert.equal(stepUnder(state, PLACE, 0), 0)
  assert.equal(sheet.of("path", "CHOSEN").length, 1)
})

test("the module's figures draw each component, and of angles only what chance does not give", () => {
  const sigma = new Recording(), turns = new Recording(), state = start()
  drawSigma(sigma, INK, state, PLACE)
  assert.deepEqual([sigma.of("path", "CURVE 0").length, sigma.of("path", "CURVE 1").length], [1, 1])
  assert.ok(sigma.words.includes("Singular values of layer 0 · o"))
  drawTurns(turns, INK, state, PLACE)
  const chance = turns.of("rect", "SOFT")[0]
  assert.ok(Math.abs(chance.height / (turns.height - 58) - 30 / 90) < 1e-6) // from 60° to 90°
  assert.equal(turns.of("dot", "CURVE 1").length, 1)
  const file = new Recording(900, 620)
  drawFilm(file, INK, state)
  assert.ok(["o", "down"].every((family) => file.words.includes(family)))
})

test("a cell tells its value, its step and how it stands to random", () => {
  const state = start()
  assert.deepEqual(tipLines(state, 0), [
    "layer 0 · o",
    "0.3 at step 10 (1 of 3)",
    "not distinguishable from random: random 0.1, chance level 0.4",
  ])
  assert.deepEqual(tipLines(chosen(state, { measure: "norm" }), 2), ["layer 0 · down, mean of 2", "6 at step 10 (1 of 3)"])
  assert.deepEqual(tipLines(state, 3), ["layer 1 · down", "no such module"])
  assert.match(tipLines(stood(start({ counts: [1, 1, 2, 1] }), 0), 3)[1], /fewer components than k/)
  assert.equal(stepWords(stood(state, 2)), "step 40 (3 of 3)")
  assert.match(mapLabel(state), /^Overlap with the last, k = 2, output side, step 10 \(1 of 3\)\. layer 0 · o: 0\.3\. Arrow keys/)
  assert.match(legendWords(state), /^At the end it is 1\. Faded cells/)
  assert.equal(legendWords(chosen(state, { measure: "norm" })), "")
})
