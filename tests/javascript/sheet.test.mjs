import assert from "node:assert/strict"
import test from "node:test"

import { Files, floats, mounted, shades, shorts, signed, standingOf, SvgSheet, text, ticks } from "../../app/components/sheet.mjs"
import { floats as packedFloats, PALETTE, shorts as packedShorts } from "./recording.mjs"

test("an SVG sheet holds what was painted, in order, and no text becomes markup", () => {
  const sheet = new SvgSheet(40, 30)
  sheet.rect(1, 2, 3.456, 4, "red", 0.5)
  sheet.path([[0, 1], [2, 3]], "blue", { thick: 2, dash: [6, 3] })
  sheet.dot(5, 6, 7, "green")
  sheet.text(1, 2, '<b>"&\'', "black", { align: "right", turn: -90, bold: true })
  const drawn = String(sheet)
  assert.match(drawn, /^<svg xmlns="[^"]*" viewBox="0 0 40 30" width="40" height="30"/)
  assert.match(drawn, /<rect x="1" y="2" width="3.46" height="4" fill="red" fill-opacity="0.5"\/><polyline points="0,1 2,3" fill="none" stroke="blue" stroke-width="2" stroke-dasharray="6,3"\/><circle cx="5" cy="6" r="7" fill="green"\/>/)
  assert.match(drawn, /text-anchor="end" fill="black" font-weight="600">&#60;b&#62;&#34;&#38;&#39;<\/text><\/svg>$/)
})

test("packed numbers are read as they were sent", () => {
  assert.deepEqual([...floats(packedFloats([0.5, -2, 3e8]))], [0.5, -2, 3e8])
  assert.deepEqual([...shorts(packedShorts([0, 1, 65535]))], [0, 1, 65535])
})

test("shades go from the first colour to the last and through those between", () => {
  const found = shades(["#000000", "#ff0000", "#ffffff"])
  assert.equal(found.length, 257)
  assert.deepEqual([found[0], found[64], found[128], found[256]], [[0, 0, 0], [128, 0, 0], [255, 0, 0], [255, 255, 255]])
})

test("a code that is no standing is drawn as not measured", () => {
  assert.deepEqual([-1, 0, 1, 2, undefined].map((code) => standingOf(PALETTE, code).colour), ["HELPS", "NEUTRAL", "HURTS", "UNMEASURED", "UNMEASURED"])
})

test("ticks are round, start at 0 and stay inside", () => {
  for (const [high, expected] of [[1, [0, 0.5, 1]], [7.3, [0, 2, 4, 6]], [0.03, [0, 0.01, 0.02, 0.03]]])
    ticks(high).forEach((value, n) => assert.ok(Math.abs(value - expected[n]) < 1e-12, `${ticks(high)}`))
  assert.deepEqual([text(1234.5678), text(0.00012346), signed(-0.5), signed(0.25, 2)], ["1235", "0.0001235", "−0.5000", "+0.25"])
})

test("a question for a file is put again until its own answer comes", () => {
  const asked = [], files = new Files((question) => asked.push(question))
  files.want("csv", { view: "all" })
  assert.deepEqual([asked[0].format, asked[0].choice, files.waiting], ["csv", { view: "all" }, true])
  files.receive({ asked: "another" })
  assert.ok(files.waiting)
  files.receive({ asked: asked[0].id })
  assert.ok(!files.waiting)
  files.stop()
})

test("a place has one page until it is left, and each run connects it anew", () => {
  const calls = []
  class Page {
    constructor(root) {
      calls.push(["made", root.name])
    }

    connect(tell, trigger) {
      calls.push([tell, trigger])
    }

    receive(data) {
      calls.push(["data", data])
    }

    unmount() {
      calls.push(["left"])
    }
  }
  const component = mounted(Page), place = { name: "here" }
  const run = (data) => component({ data, parentElement: place, setStateValue: `tell ${data}`, setTriggerValue: `trigger ${data}` })
  run(1)
  const leave = run(2)
  leave()
  run(3)
  assert.deepEqual(calls, [
    ["made", "here"], ["tell 1", "trigger 1"], ["data", 1], ["tell 2", "trigger 2"], ["data", 2], ["left"],
    ["made", "here"], ["tell 3", "trigger 3"], ["data", 3],
  ])
})
