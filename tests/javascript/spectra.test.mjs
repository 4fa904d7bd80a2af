import assert from "node:assert/strict"
import test from "node:test"

import { drawAll, drawOne } from "../../app/spectra/figures.mjs"
import { ends, extent, logTicks, scaleOf } from "../../app/spectra/marks.mjs"
import { drawDepth, drawStability } from "../../app/spectra/profiles.mjs"
import {
  blank, chosen, clicked, figureOf, keyed, listed, moduleOf, opened, received, selected, sorted, stepped,
} from "../../app/spectra/state.mjs"
import { factRows, needOf, readoutOf, titleOf, told } from "../../app/spectra/words.mjs"
import { bytes, floats, INK, PALETTE, Recording } from "./recording.mjs"

const BOX = { x: 0, y: 0, width: 600, height: 400 }
const CHOICE = {
  view: "all", show: "sigma", scale: "linear", range: "same", module: "a0", component: 0, measure: "effective", family: "",
  list: "harmful", sort: "",
}
const MEASURED = {
  examples: 40,
  mean: floats([-0.5, 0.5, 0.01, NaN, NaN]),
  error: floats([0.1, 0.1, 0.1, NaN, NaN]),
  magnitude: floats([0.5, 0.5, 0.1, NaN, NaN]),
  magnitudeError: floats([0.1, 0.1, 0.1, NaN, NaN]),
  agreement: floats([1, 0.9, 0.5, NaN, NaN]),
  standing: bytes([-1, 1, 0, 2, 2]),
  named: 2,
  counted: 3,
  byLuck: 0.1,
  layerShares: { "": { layers: [0, 1], shares: [[0.25, 0.25, 0.5], [1, 0, 0]] } },
  listed: 100,
  lists: {
    harmful: [
      { module: 0, component: 1, sigma: 2, share: 0.2, mean: 0.5, error: 0.1, silence: -1, silenceError: 0.2 },
      { module: 1, component: 0, sigma: 3, share: 0.9, mean: 0.4, error: 0.1, silence: null, silenceError: null },
    ],
    helpful: [],
    wasteful: [],
  },
  stability: [{ examples: 32, modules: 2, half_magnitude: 0.5, half_signed: null, half_top: 1, magnitude: 0.75, signed: 1 }],
  curves: [{ words: "halves", values: [0.5] }, { words: "signed halves", values: [null] }],
  verdicts: ["moderate"],
}

// a0 and a1 of the family a in layers 0 and 1, b of no layer
function sent(measured = MEASURED) {
  const module = (name, at) => ({ name, label: `label ${name}`, layer: null, rank: 2, stable: 1, k90: 1, shares: null, row: 0, ...at })
  return {
    key: `key of ${Boolean(measured)}`,
    choice: CHOICE,
    imposed: "first",
    file: null,
    source: "adapter",
    rows: ["a", "no layer"],
    columns: ["0", "1"],
    families: ["a", "b"],
    modules: [
      module("a0", { family: "a", layer: 0, start: 0, column: 0, effective: 2 }),
      module("a1", { family: "a", layer: 1, start: 2, column: 1, effective: 1, rank: 1 }),
      module("b", { family: "b", start: 3, row: 1, column: 0, effective: null }),
    ],
    sigma: floats([4, 2, 3, 1, 0]),
    share: floats([0.8, 0.2, 1, 1, 0]),
    energy: floats([0.8, 1, 1, 1, 1]),
    degenerate: bytes([0, 0, 0, 0, 1]),
    errors: 2,
    labels: { show: [["sigma", "σ"], ["mean", "signed mean g"]], measure: [["effective", "effective rank"]] },
    palette: PALETTE,
    measured,
  }
}

const start = (measured) => received(blank(), sent(measured))
const painted = (draw, state, live = false) => {
  const sheet = new Recording(BOX.width, BOX.height)
  const under = draw(sheet, INK, BOX, state.m, state.choice, live)
  return { sheet, under }
}
// bars are wider than the ten pixels of a legend's
const bars = (sheet, colour) => sheet.of("rect", colour).filter(({ width, height }) => width > 10.5 || height > 10.5)

test("what helps, hurts, is neither or was not measured is painted as such, on the board and alone", () => {
  const { sheet } = painted(drawAll, start())
  const x = (colour) => bars(sheet, colour).map((bar) => bar.x)
  assert.deepEqual([x("HELPS").length, x("HURTS").length, x("NEUTRAL").length, x("UNMEASURED").length], [1, 1, 1, 1])
  assert.ok(x("HELPS")[0] < x("HURTS")[0]) // component 0 has mean g −0.5, component 1 has 0.5
  assert.equal(bars(sheet, "NEUTRAL")[0].alpha, 0.5)
  const alone = painted(drawOne, start()).sheet
  const [helps] = bars(alone, "HELPS"), [hurts] = bars(alone, "HURTS")
  assert.ok(Math.abs(helps.height / hurts.height - 2) < 1e-9) // σ 4 and 2
  const [, below] = bars(alone, "HELPS"), [, above] = bars(alone, "HURTS") // mean g
  assert.ok(Math.abs(below.y - (above.y + above.height)) < 1e-9)
})

test("what hurts carries a mark that needs no colour, and the legend names every colour", () => {
  const { sheet } = painted(drawAll, start()), [bar] = bars(sheet, "HURTS")
  assert.ok(sheet.of("rect", INK.back).filter(({ x, width }) => x === bar.x && width === bar.width).length > 1)
  assert.ok(["helps", "neutral within noise", "hurts", "not measured"].every((words) => sheet.words.includes(words)))
  const unmeasured = painted(drawAll, start(null)).sheet
  assert.deepEqual([bars(unmeasured, "HELPS").length, bars(unmeasured, "UNMEASURED").length], [0, 4])
  assert.ok(unmeasured.words.includes("not measured yet"))
})

test("a point of the board names the component whose bar is there", () => {
  const { sheet, under } = painted(drawAll, start()), [bar] = bars(sheet, "HURTS")
  const { module, component, lines } = under(bar.x + 1, bar.y + 1)
  assert.deepEqual([module.name, component], ["a0", 1])
  assert.match(lines[2], /^mean g \+0\.5 ± 0\.1: hurts$/)
  assert.equal(under(0, 0), null)
  const alone = painted(drawOne, start()), [one] = bars(alone.sheet, "HURTS")
  assert.equal(alone.under(one.x + 1).component, 1)
})

test("the shares of a layer are stacked in the order of the standings, and curves go through their values", () => {
  const { sheet, under } = painted(drawDepth, start()), high = (colour) => bars(sheet, colour).map((bar) => bar.height)
  const [part, whole] = high("HELPS")
  assert.ok(Math.abs(part / whole - 0.25) < 1e-9)
  assert.ok(Math.abs(high("HURTS")[0] / whole - 0.5) < 1e-9)
  const [{ points }] = sheet.of("path", "CURVE 0")
  assert.equal(points.length, 2)
  assert.ok(points[0][1] < points[1][1]) // effective rank 2, then 1
  const { x, y } = bars(sheet, "HURTS")[0]
  assert.match(under(x + 1, y).lines[1], /helps 25\.0 %, neutral within noise 25\.0 %, hurts 50\.0 %/)
})

test("a ranking that is not known leaves a gap", () => {
  const { sheet, under } = painted(drawStability, start())
  assert.equal(sheet.of("dot", "RANKING 0").length, 2) // its point and its key
  assert.equal(sheet.of("rect", "RANKING 1").length, 1) // its key
  assert.deepEqual(under(300, 200).lines, ["32 examples, 2 modules", "halves: 0.5", "signed halves: unknown"])
})

test("the choice is the browser's until the server imposes another", () => {
  const mine = chosen(start(), { view: "depth" })
  assert.equal(received(mine, sent()).choice.view, "depth")
  assert.equal(received(mine, { ...sent(), imposed: "second" }).choice.view, "all")
  assert.equal(received(mine, sent()).m, mine.m) // the same numbers are not read again
})

test("keys walk the board, a module's components and its family", () => {
  const state = start(), at = ({ choice }) => [choice.view, choice.module, choice.component]
  assert.deepEqual(at(keyed(state, "ArrowRight")), ["all", "a1", 0])
  assert.deepEqual(at(keyed(state, "ArrowDown")), ["all", "b", 0])
  assert.equal(keyed(state, "ArrowLeft"), state)
  assert.deepEqual(at(keyed(state, "ArrowRight", true)), ["all", "a0", 1])
  assert.deepEqual(at(keyed(state, "End")), ["all", "a0", 1])
  assert.deepEqual(at(keyed(keyed(state, "End"), "ArrowRight")), ["all", "a1", 0]) // which has one component
  const one = keyed(state, "Enter")
  assert.deepEqual(at(one), ["one", "a0", 0])
  assert.deepEqual(at(keyed(one, "ArrowLeft")), ["one", "a0", 1])
  assert.deepEqual(at(keyed(one, "ArrowDown")), ["one", "a1", 0])
  assert.deepEqual(at(stepped(stepped(one, 1), 1)), ["one", "a0", 0])
  assert.equal(keyed(state, "x"), null)
  assert.equal(keyed(chosen(state, { view: "stability" }), "ArrowRight"), null)
})

test("a click opens a module, or picks a component of the one that is open", () => {
  const state = start(), hit = { module: state.m.byName.get("a1"), component: 0 }
  assert.equal(moduleOf(clicked(state, hit)).name, "a1")
  const one = opened(state, state.m.byName.get("a0"))
  assert.deepEqual(clicked(one, { ...hit, component: 1 }).choice, { ...one.choice, component: 1 })
  assert.equal(selected(keyed(state, "End"), "module", "a1").choice.component, 0)
})

test("a list is sorted by a column down, then up, with what is not known at the bottom", () => {
  const state = sorted(start(), "silence"), order = (each) => listed(each).map((row) => row.module.name)
  assert.equal(state.choice.sort, "-silence")
  assert.deepEqual([order(state), order(sorted(state, "silence"))], [["a0", "a1"], ["a1", "a0"]])
  assert.deepEqual(order(sorted(start(), "layer")), ["a1", "a0"])
  assert.equal(selected(state, "list", "helpful").choice.sort, "")
})

test("what lacks a calibration says so and draws what it can", () => {
  const state = start(null), view = (changes) => chosen(state, changes)
  assert.equal(needOf(state), "")
  assert.match(needOf(view({ show: "mean" })), /^Not known yet: signed mean g\./)
  assert.match(needOf(view({ view: "depth" })), /^Not known yet: where energy helps or hurts\./)
  assert.deepEqual([{}, { show: "mean" }, { view: "one" }, { view: "depth" }, { view: "stability" }, { view: "lists" }].map((changes) => figureOf(view(changes))),
    ["all", null, "one", "depth", null, null])
  assert.equal(figureOf(chosen(start(), { view: "stability" })), "stability")
  assert.equal(figureOf(start({ ...MEASURED, stability: [] })), "all")
})

test("a component is told with its standing, one without a measurement as such", () => {
  const { m } = start(), [a0, a1, b] = m.modules
  assert.match(told(m, a0, 0).join(), /mean g −0\.5 ± 0\.1: helps/)
  assert.match(told(m, a1, 0).join(), /neutral within noise/)
  assert.deepEqual(told(m, b, 1).slice(2), ["not measured", "its σ is (nearly) degenerate: only the sum of g over the equal ones is determined"])
  const facts = (module, k) => factRows(m, module, k).find(([name]) => name === "standing")?.[1]
  assert.deepEqual([facts(a0, 0), facts(a0, 1), facts(a1, 0), facts(b, 0)], ["helps", "hurts", "neutral", undefined])
  const state = start()
  assert.match(readoutOf(chosen(state, { view: "depth" })), /^label a0: effective rank 2 of 2\. Layer 0, energy of all families: helps 25/)
  assert.deepEqual(titleOf(chosen(state, { view: "one" })), ["Spectrum of label a0", "a0; adapter; 40 calibration examples; a sign counts from 2 standard errors"])
})

test("an axis holds 0 and what errors reach; a log axis ends some decades down", () => {
  assert.deepEqual(extent([1, -2, NaN, 4], 0, 4, [0.5, 1, 1, NaN]), { low: -3, high: 4, least: 1 })
  assert.deepEqual(ends({ low: 0, high: 8, least: 1e-9 }, true, 2), [0.08, 8])
  assert.deepEqual(ends({ low: 0, high: 0, least: Infinity }, false), [0, 1])
  assert.deepEqual(logTicks(1, 10), [1, 2, 5, 10])
  const y = scaleOf(0.01, 100, true, 0, 40)
  assert.deepEqual([100, 1, 0.01, 0].map((value) => Math.round(y(value))), [0, 20, 40, 40])
})

test("what enters the modules is told where it was measured, and how to get it where it was not", () => {
  const shares = { ...sent(), functional: floats([0.3, 0.7, NaN, 1, 0]), key: "with inputs" }
  const state = received(blank(), shares)
  const a0 = state.m.byName.get("a0"), a1 = state.m.byName.get("a1")
  assert.ok(told(state.m, a0, 1).includes("70.0 % of the module's functional energy Σσ²q"))
  assert.ok(!told(state.m, a1, 0).some((line) => line.includes("functional")))
  assert.deepEqual(factRows(state.m, a1, 0).find(([name]) => name === "share of Σσ²q"), ["share of Σσ²q", "not measured"])
  assert.equal(needOf(chosen(state, { view: "all", show: "functional" })), "")
  assert.ok(painted(drawAll, chosen(state, { show: "functional" })).sheet.words.some((words) => words.includes("0 to 1")))
  for (const change of [{ view: "all", show: "functional" }, { view: "depth", measure: "full" }])
    assert.match(needOf(chosen(start(), change)), /^Not known yet: .*σ²q\. This calibration is of an earlier version: press “Calibrate again”/)
  assert.match(needOf(chosen(start(null), { view: "all", show: "functional" })), /This needs a calibration/)
  assert.equal(figureOf(chosen(start(), { view: "all", show: "functional" })), null)
})
