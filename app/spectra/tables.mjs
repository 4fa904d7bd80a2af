// The tables of the Spectra page: components by what zeroing them would do, and rankings by budget.
import { element, text } from "../components/sheet.mjs"
import { listed } from "./state.mjs"
import { percent, plus } from "./words.mjs"

const COLUMNS = [
  ["layer", "layer"], ["family", "family"], ["component", "component"], ["sigma", "σ"], ["share", "energy"],
  ["mean", "mean g"], ["error", "± s.e."], ["silence", "if zeroed, Δ loss"],
]
const BUDGET_HEADS = ["examples", "mean |g|: halves", "signed g: halves", "top 20 % kept: halves", "mean |g|: to all", "signed g: to all"]
const BUDGET_KEYS = ["examples", "halfMagnitude", "halfSigned", "halfTop", "magnitude", "signed"]

export function budgetTable({ stability }) {
  const shown = (budget, name) =>
    name === "examples" ? budget[name] : budget[name] === null ? "–" : (budget[name] < 0 ? "−" : "") + Math.abs(budget[name]).toFixed(2)
  return table(
    BUDGET_HEADS.map((head) => element("th", { scope: "col" }, element("span", { textContent: head }))),
    stability.map((budget) => element("tr", {}, ...BUDGET_KEYS.map((name) => element("td", { textContent: shown(budget, name) })))),
  )
}

// the chosen list in `box`; `hand` is told what is clicked: open(module, component), sort(column)
export function showList(box, state, hand) {
  const { sort } = state.choice, column = sort.replace("-", ""), down = sort.startsWith("-")
  const body = listed(state).map((row) => listRow(row, hand.open))
  if (box.querySelector("thead.sorted")) box.querySelector("tbody").replaceChildren(...body)
  else {
    box.replaceChildren(table(COLUMNS.map((each, n) => listHead(each, n, hand.sort)), body))
    box.querySelector("thead").className = "sorted"
  }
  for (const head of box.querySelectorAll("th")) {
    const here = head.dataset.name === column
    head.setAttribute("aria-sort", here ? (down ? "descending" : "ascending") : "none")
    head.firstChild.textContent = head.dataset.label + (here ? (down ? " ↓" : " ↑") : "")
  }
  if (!body.length)
    box.querySelector("tbody").append(element("tr", {}, element("td", { colSpan: COLUMNS.length, className: "word", textContent: "No component was named." })))
  box.scrollTop = 0
}

function listHead([name, label], n, sort) {
  const button = element("button", { type: "button" })
  button.onclick = () => sort(name)
  const head = element("th", { scope: "col", className: n < 2 ? "word" : "" }, button)
  Object.assign(head.dataset, { name, label })
  return head
}

function listRow(row, open) {
  const { module, component } = row
  const button = element("button", { type: "button", textContent: module.layer ?? module.name, title: module.name })
  button.setAttribute("aria-label", `Open ${module.label}, component ${component}`)
  const cells = [button, module.family, component, text(row.sigma), percent(row.share), plus(row.mean), text(row.error),
    `${plus(row.silence)} ± ${text(row.silenceError)}`]
  const line = element("tr", {}, ...cells.map((cell, n) => element("td", { className: n < 2 ? "word" : "" }, cell)))
  Object.assign(line.dataset, { module: module.name, component })
  line.onclick = () => open(module, component)
  return line
}

function table(heads, rows) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))
}
