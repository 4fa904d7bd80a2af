import assert from "node:assert/strict"
import test from "node:test"

import { barAt, drawBars, drawGains, drawGate, gainAt, shadeOf } from "../../app/editing/figures.mjs"
import {
  acted, armed, blank, byHand, dropped, expectationNow, gainsNow, grabbed, keyed, letGo, moduleOf, numbersNow, opened, pulled, received, turned,
  slid, stepped,
} from "../../app/editing/state.mjs"
import { doubtsOf, handWords, numberRows, tipLines } from "../../app/editing/words.mjs"
import { floats, INK, PALETTE, Recording, shorts } from "./recording.mjs"

const NUMBERS = { predicted: -0.5, standardError: 0.1, raised: 1, lowered: 2, zeroed: 1, nuclearNormMoved: 0.25, nuclearNormRatio: 1 }
const OF_ROW = { ...NUMBERS, predicted: -0.75 }
const EXPECTED = { mean: -0.25, error: 0.05, low: -0.35, high: -0.15, linear: -0.3, curvature: 0.05, folds: 8, doubts: [] }
const KNOB = { name: "gamma", low: 0, step: 0.5 }
const UNIT = 1000

// two modules of ranks 2 and 1, in the families a and b
function sent(changes = {}) {
  return {
    answered: 0,
    modules: [
      { name: "first", label: "layer 0 · first", layer: 0, family: "a", rank: 2, start: 0 },
      { name: "second", label: "second", layer: null, family: "b", rank: 1, start: 2 },
    ],
    families: ["a", "b"],
    scalars: 3,
    sigma: floats([4, 2, 1]),
    mean: floats([0.5, -0.5, 0.01]),
    error: floats([0.1, 0.1, 0.1]),
    gains: floats([1, 0.5, 4]),
    position: floats([1, 0, 0.5]),
    positionRange: [0, 1],
    positionLabel: "|g|",
    groups: [{ name: "family: q_proj" }],
    manual: {},
    numbers: NUMBERS,
    expectation: EXPECTED,
    tableKeys: { gamma: "key" },
    table: null,
    errors: 2,
    largestGain: 16,
    palette: PALETTE,
    ...changes,
  }
}

// the second of three values is one that the policy refuses; its codes are there all the same
const TABLE = {
  key: "key",
  knob: "gamma",
  every: 1,
  unit: UNIT,
  gains: shorts([250, 500, 750, 9999, 9999, 9999, 2000, 3000, 4000]),
  numbers: [OF_ROW, null, OF_ROW],
  expectations: [null, null, { ...EXPECTED, mean: -0.5 }],
}

const start = (changes) => received(blank(0), sent(changes))
const dragged = (value) => slid(start({ table: TABLE }), KNOB, value)
const near = (found, expected) => found.forEach((value, n) => assert.ok(Math.abs(value - expected[n]) < 1e-6, `${found} is not ${expected}`))

test("a dragged knob shows the gains and numbers of its row, in the unit that the table names", () => {
  near(gainsNow(dragged(0)), [0.25, 0.5, 0.75])
  near(gainsNow(dragged(1)), [2, 3, 4])
  assert.equal(numbersNow(dragged(0)), OF_ROW)
})

test("a value that the policy refuses shows neither gains nor numbers of its row", () => {
  near(gainsNow(dragged(0.5)), [1, 0.5, 4])
  assert.equal(numbersNow(dragged(0.5)), NUMBERS)
})

test("a drag beyond the table's rows shows the last one, and a table of many steps is read at its rows", () => {
  near(gainsNow(dragged(50)), [2, 3, 4])
  const coarse = slid(start({ table: { ...TABLE, every: 10 } }), KNOB, 10) // step 20 of 30
  near(gainsNow(coarse), [2, 3, 4])
})

test("a table of another plan is dropped, and a knob asks for its own once", () => {
  const held = start({ table: TABLE })
  assert.equal(armed(held, "gamma"), held)
  const stale = received(held, sent({ tableKeys: { gamma: "another" } }))
  assert.equal(stale.table, null)
  const asked = armed(stale, "gamma")
  assert.notEqual(asked, stale)
  assert.equal(armed(asked, "gamma"), asked)
  assert.equal(received(asked, sent({ table: TABLE })).arming, null)
})

test("an edit that the server refused is taken back: the board shows what the server has", () => {
  const pulling = pulled(grabbed(start(), 0, false, 100), 50, 3)
  near(gainsNow(pulling), [3, 0.5, 4])
  const asked = letGo(pulling)
  assert.deepEqual(asked.waiting, [{ id: 1, type: "manual", module: "first", gains: { 0: 3 } }])
  near(gainsNow(asked), [3, 0.5, 4]) // until the answer
  const refused = received(asked, sent({ answered: 1 }))
  near(gainsNow(refused), [1, 0.5, 4])
  assert.deepEqual(refused.waiting, [])
  const knob = received(acted(dragged(1), "knob", { knob: "gamma", value: 1 }), sent({ answered: 1 }))
  near(gainsNow(knob), [1, 0.5, 4])
  assert.equal(numbersNow(knob), NUMBERS)
  const nudged = received(keyed(start(), "ArrowUp"), sent({ answered: 1 }))
  near(gainsNow(nudged), [1, 0.5, 4])
})

test("acts are numbered, sent together, and dropped as far as they are answered", () => {
  const two = acted(acted(start(), "undo"), "redo")
  assert.deepEqual(two.waiting, [{ id: 1, type: "undo" }, { id: 2, type: "redo" }])
  assert.deepEqual(received(two, sent({ answered: 1 })).waiting, [{ id: 2, type: "redo" }])
})

test("a bar under the hand is not moved by an answer, and one let go without a move asks for nothing", () => {
  const grabs = grabbed(start(), 1, false, 100)
  const pulling = received(pulled(grabs, 90, 2), sent())
  near(gainsNow(pulling), [1, 2, 4])
  assert.equal(pulled(grabs, 102, 7), grabs)
  assert.deepEqual(letGo(grabs).waiting, [])
  assert.equal(letGo(grabs).drag, null)
  near(gainsNow(dropped(pulling)), [1, 0.5, 4])
})

test("keys choose round the module, nudge by a twentieth at once, zero, lock and reset", () => {
  const state = start()
  assert.deepEqual([...keyed(state, "ArrowLeft").picked], [1])
  const up = keyed(keyed(state, "ArrowUp"), "ArrowUp")
  near(gainsNow(up), [1.1, 0.5, 4])
  assert.deepEqual(up.waiting.map((act) => Object.values(act.gains)), [[1.05], [1.1]])
  near(gainsNow(state), [1, 0.5, 4]) // a state does not change
  for (const [key, gain] of [["Delete", 0], ["Backspace", null], ["l", "lock"]])
    assert.deepEqual(keyed(state, key).waiting.at(-1).gains, { 0: gain })
  assert.equal(keyed(state, "x"), null)
  assert.deepEqual([...keyed({ ...state, picked: new Set() }, "ArrowRight").picked], [0])
})

test("modules follow each other in a ring, and a module that is gone gives way to the first", () => {
  const state = start()
  assert.deepEqual([stepped(state, 1), stepped(state, -1), stepped(stepped(state, 1), 1)].map((each) => each.module), ["second", "second", "first"])
  const left = received(opened(state, "second"), sent({ modules: sent().modules.slice(0, 1) }))
  assert.equal(moduleOf(left).name, "first")
  const both = grabbed(grabbed(state, 0, false, 0), 1, true, 0)
  assert.deepEqual(byHand(both, 0).waiting[0].gains, { 0: 0, 1: 0 })
  assert.deepEqual([...grabbed(both, 1, true, 0).picked], [0])
})

test("what raises the loss is painted as what hurts, what lowers it as what helps, the unsure as neither", () => {
  const sheet = new Recording(), state = start()
  drawBars(sheet, INK, state, gainsNow(state))
  const [hurts] = sheet.of("rect", "HURTS"), [helps] = sheet.of("rect", "HELPS")
  assert.equal(sheet.of("rect", "HURTS").length + sheet.of("rect", "HELPS").length, 2)
  assert.ok(hurts.x < helps.x) // component 0 has mean g 0.5, component 1 −0.5
  assert.ok(hurts.height > 0) // downwards from the axis
  assert.ok(helps.height < 0)
  const unsure = new Recording()
  drawBars(unsure, INK, opened(state, "second"), gainsNow(state))
  assert.equal(unsure.of("rect", "NEUTRAL").length, 1)
})

test("bars are as high as σ and σ′, and one set by hand has its own colour", () => {
  const sheet = new Recording(), state = start({ manual: { first: { 1: 0.5 } } })
  drawBars(sheet, INK, state, gainsNow(state))
  const [tall, low] = sheet.of("rect", "BEFORE"), [kept] = sheet.of("rect", "AFTER"), [set] = sheet.of("rect", "BY HAND")
  near([low.height / tall.height, kept.height / tall.height, set.height / tall.height], [0.5, 1, 0.25])
})

test("a point of the bars names the gain that would make the bar so high", () => {
  const sheet = new Recording(), state = start()
  const bars = drawBars(sheet, INK, state, gainsNow(state))
  const { x, y, height } = sheet.of("rect", "BEFORE")[1]
  assert.deepEqual(barAt(bars, state, x, y), { component: 1, gain: 1 })
  assert.equal(barAt(bars, state, x, y + height / 2).gain, 0.5)
  assert.equal(barAt(bars, state, x, y + 2 * height).gain, 0)
  assert.equal(barAt(bars, start({ sigma: floats([4, 1e-6, 1]) }), x, y).gain, 16)
  assert.equal(barAt(bars, start({ sigma: floats([4, 0, 1]) }), x, y).gain, 1)
  assert.equal(barAt(bars, state, -1, y), null)
})

test("the map colours gains by their log₂, and a point of it names module and component", () => {
  assert.deepEqual([0, 0.25, 0.5, 1, 2, 4, 100].map((gain) => shadeOf(gain, 2)), [0, 0, 64, 128, 192, 256, 256])
  const sheet = new Recording(), state = start()
  const boxes = drawGains(sheet, INK, state, gainsNow(state)), [whole, half, four] = sheet.of("rect")
  assert.deepEqual([whole.fill, half.fill, four.fill], ["rgb(128,128,128)", "rgb(192,64,64)", "rgb(0,0,255)"])
  const hit = gainAt(boxes, half.x + 1, half.y + 1)
  assert.deepEqual([hit.module.name, hit.component], ["first", 1])
  assert.equal(gainAt(boxes, 0, 0), undefined)
  assert.equal(sheet.of("frame").length, 1)
})

test("the gate shows every component, and those of the open module in a line by their position", () => {
  const sheet = new Recording(), state = start()
  drawGate(sheet, INK, state, gainsNow(state))
  assert.equal(sheet.of("rect", "NEUTRAL").length, 3)
  const [{ points }] = sheet.of("path", "ACCENT")
  assert.ok(points[0][0] < points[1][0] && points[0][1] > points[1][1]) // gain 0.5 at 0, gain 1 at 1
  assert.equal(sheet.of("dot", "BY HAND").length, 1)
})

test("what is expected on held-out rows leads, with its band, and the first-order number stands beside it", () => {
  const row = (expectation, numbers) => numberRows(sent(), { ...NUMBERS, ...numbers }, expectation)[0]
  const first = "first-order, calibration rows −0.5000 ± 0.1000"
  assert.deepEqual(row(EXPECTED), [
    "Expected Δ loss, held-out rows", "−0.2500 ± 0.0500", `95 % −0.3500 … −0.1500; ${first}`,
  ])
  assert.match(row({ ...EXPECTED, high: 0.01 })[2], /^95 % −0\.3500 … \+0\.0100, within noise; /)
  const few = { ...EXPECTED, mean: null, error: null, low: null, high: null }
  assert.deepEqual(row(few).slice(1), ["not known", first])
  assert.deepEqual(row(null, { predicted: null, standardError: null }).slice(1), ["not measured", "calibrate on Spectra"])
  assert.deepEqual(row(EXPECTED, { predicted: 0 })[2], "nothing changes")
})

test("doubts are told in one line, and nothing where there are none", () => {
  assert.equal(doubtsOf(EXPECTED), "")
  assert.equal(doubtsOf(null), "")
  assert.equal(doubtsOf({ ...EXPECTED, doubts: ["a", "b"] }), "Expected on held-out rows: a. b.")
})

test("a dragged knob tells the expectation of the nearest step that has one, and let go the server's", () => {
  assert.equal(expectationNow(dragged(0)).mean, -0.5)
  assert.equal(expectationNow(dragged(1)).mean, -0.5)
  assert.equal(expectationNow(start()).mean, -0.25)
  const none = { ...TABLE, expectations: [null, null, null] }
  assert.equal(expectationNow(slid(start({ table: none }), KNOB, 0)), null)
})

test("what is picked is told with its σ and gain", () => {
  const state = start({ manual: { first: { 1: 0.5 } } }), picked = { ...state, picked: new Set([1]) }
  assert.deepEqual(handWords(picked, gainsNow(picked)).picked, "component 1")
  assert.match(handWords(picked, gainsNow(picked)).label, /Component 1: σ 2, gain 0\.500/)
  assert.equal(handWords({ ...state, picked: new Set([0, 1]) }, gainsNow(state)).gain, "")
  assert.deepEqual(tipLines(state, gainsNow(state), moduleOf(state), 1), [
    "layer 0 · first · component 1", "σ 2 → σ′ 1  (gain 0.500)", "mean g −0.5000 ± 0.1000", "by hand: 0.5",
  ])
})

test("what is let go is asked for as what it is: the strength, the gain of a layer group, a knob of the policy", () => {
  const asked = (knob, value) => turned(start(), knob, value).waiting
  assert.deepEqual(asked("strength", 0.5), [{ id: 1, type: "strength", value: 0.5 }])
  assert.deepEqual(asked("family: q_proj", 0.5), [{ id: 1, type: "group", group: "family: q_proj", value: 0.5 }])
  assert.deepEqual(asked("gamma", 2), [{ id: 1, type: "knob", knob: "gamma", value: 2 }])
})
