// The script of a report: unpacks what the page carries, draws the figures, and lets a reader look through the answers.
// Texts of files enter the page as text alone.

export async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
  return new Response(stream).text()
}

// plotly reads tags in its titles
export function asText(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
}

// the examples that a variant answers in one of the ways of the filter, and in which every word stands
export function answersOf(answers, variant, filter, words) {
  const own = answers.variants[variant]
  const gained = new Set(own.gained), lost = new Set(own.lost)
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean)
  const found = answers.number.map((number, i) => ({
    number,
    task: answers.task ? answers.task[i] : null,
    question: answers.question[i],
    reference: answers.reference[i],
    before: answers.texts[i][own.before[i]],
    after: answers.texts[i][own.after[i]],
    change: own.change ? own.change[i] : null,
    mark: gained.has(i) ? "gained" : lost.has(i) ? "lost" : "",
    changed: own.before[i] !== own.after[i],
  }))
  const shown = {
    all: () => true,
    changed: (row) => row.changed,
    gained: (row) => row.mark === "gained",
    lost: (row) => row.mark === "lost",
  }[filter]
  return found.filter((row) => shown(row) && wanted.every((word) => textOf(row).includes(word)))
}

function textOf(row) {
  return [row.task ?? "", row.question, row.reference, row.before, row.after].join(" ").toLowerCase()
}

// columns of the table of answers: the title, and what a row has there
export function columnsOf(answers, variant) {
  const columns = [["example", (row) => String(row.number)]]
  if (answers.task) columns.push(["task", (row) => row.task])
  columns.push(["question", (row) => row.question], ["reference", (row) => row.reference])
  columns.push([answers.unedited, (row) => row.before], [answers.variants[variant].name, (row) => row.after])
  if (answers.title) columns.push([answers.title, (row) => row.change === null ? "–" : signed(row.change)])
  columns.push(["", (row) => row.mark])
  return columns
}

function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4)
}

function node(document, tag, text, className) {
  const made = document.createElement(tag)
  if (text !== undefined) made.textContent = text
  if (className) made.className = className
  return made
}

function tableOf(document, columns, rows) {
  const table = node(document, "table", undefined, "texts")
  const head = table.createTHead().insertRow()
  for (const [title] of columns) head.append(node(document, "th", title))
  const body = table.createTBody()
  for (const row of rows) {
    const line = body.insertRow()
    columns.forEach(([title, cell], place) => {
      const mark = title === "" && row.mark ? `marked ${row.mark}` : ""
      line.append(node(document, place === 0 ? "th" : "td", cell(row), mark))
    })
  }
  return table
}

function showAnswers(document, answers) {
  const part = (name) => document.getElementById(`answers-${name}`)
  let place = part("table")
  const show = () => {
    const variant = Number(part("variant").value)
    const rows = answersOf(answers, variant, part("filter").value, part("search").value)
    const table = tableOf(document, columnsOf(answers, variant), rows)
    place.replaceWith(table)
    place = table
    part("count").textContent = `${rows.length} of ${answers.number.length} examples`
  }
  for (const name of ["variant", "filter"]) part(name).addEventListener("change", show)
  part("search").addEventListener("input", show)
  show()
}

// draws every figure that stands where a reader can see it, once; the others wait until their edit is chosen
function figureDrawer(document, plotly, figures) {
  const config = { responsive: true, displaylogo: false }
  const places = {}
  const seen = (place) => !place.closest("[hidden]")
  const fit = () => Object.values(places).filter(seen).forEach((place) => plotly.Plots.resize(place))
  for (const event of ["beforeprint", "afterprint"]) document.defaultView.addEventListener(event, fit)
  const draw = () => {
    for (const [name, { data, layout }] of Object.entries(figures)) {
      const place = document.getElementById(`figure-${name}`)
      if (name in places || !seen(place)) continue
      place.replaceChildren()
      plotly.newPlot(place, data, layout, config)
      places[name] = place
    }
    fit()
  }
  return { places, draw }
}

// σ before and after of the module that was chosen, in the list or on a map; the names of an edit's parts have its prefix
function chooseModules(document, plotly, figures, modules, places, prefix) {
  const list = document.getElementById(`${prefix}module`), { data, layout } = figures[`${prefix}spectrum`]
  const show = (at) => {
    const { name, sigma, after } = modules[at]
    list.value = String(at)
    const x = sigma.map((_, k) => k)
    const traces = data.map((trace, i) => ({ ...trace, x, y: [sigma, after][i] }))
    plotly.react(places[`${prefix}spectrum`], traces, { ...layout, title: { ...layout.title, text: asText(name) } })
  }
  list.addEventListener("change", () => show(Number(list.value)))
  for (const [name, place] of Object.entries(places)) {
    if (!name.startsWith(`${prefix}gains-`)) continue
    place.on("plotly_click", ({ points: [{ customdata: [label] }] }) => {
      const at = modules.findIndex((module) => asText(module.name) === label)
      if (at >= 0) show(at)
    })
  }
}

// one edit at a time, each drawn when it is first looked at
async function chooseEdits(document, plotly, figures) {
  const blocks = [...document.querySelectorAll("div.edit")], list = document.getElementById("which-edit")
  const { places, draw } = figureDrawer(document, plotly, figures)
  const ready = new Set()
  const show = async (at) => {
    blocks.forEach((block, place) => (block.hidden = place !== at))
    draw()
    const prefix = blocks[at]?.dataset.prefix
    if (prefix === undefined || ready.has(prefix)) return
    ready.add(prefix)
    const modules = await parsed(document, `${prefix}modules`)
    if (modules) chooseModules(document, plotly, figures, modules, places, prefix)
  }
  list?.addEventListener("change", () => show(Number(list.value)))
  await show(Number(list?.value ?? 0))
}

// what a section packed under that name; undefined where the run has nothing of it
async function carried(document, name) {
  const block = document.getElementById(`data-${name}`)
  return block ? unpack(block.textContent) : undefined
}

async function parsed(document, name) {
  const text = await carried(document, name)
  return text === undefined ? undefined : JSON.parse(text)
}

export async function start(document) {
  const trouble = document.getElementById("trouble")
  if (typeof DecompressionStream === "undefined") {
    trouble.textContent = "This browser cannot unpack the figures and the other answers; newer ones can. The tables are whole."
    trouble.hidden = false
    return
  }
  for (const control of document.querySelectorAll(".script")) control.hidden = false
  const answers = await parsed(document, "answers")
  if (answers) showAnswers(document, answers)
  const library = document.createElement("script")
  library.textContent = await carried(document, "plotly")
  document.head.append(library)
  const plotly = document.defaultView.Plotly
  await chooseEdits(document, plotly, await parsed(document, "figures"))
  document.documentElement.dataset.drawn = "true"
}
