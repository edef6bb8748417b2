// npm run demo: plays the story and ends with status 0, or 1 where anything went otherwise.
import { bold, byReply, dim, green, red } from './paint'
import { type Happened, play } from './play'
import { type Step, story } from './story'
import { Watch } from './watch'
import { startWorld } from './world'

const WIDTH = 100

/** Joins the parts with commas, and begins a new line where one would be longer than the screen. */
function wrapped(parts: string[], indent: string): string {
  const lines = ['']
  for (const [index, part] of parts.entries()) {
    const text = index < parts.length - 1 ? `${part}, ` : part
    if (lines.at(-1) && lines.at(-1)!.length + text.length > WIDTH - indent.length) lines.push('')
    lines[lines.length - 1] += text
  }
  return lines.map((line) => line.trimEnd()).join(`\n${indent}`)
}

function tell(number: number, step: Step, { exchanges, rules, arrived, asExpected }: Happened) {
  const reply = exchanges.at(-1)?.reply.lines.at(-1) ?? ''
  const said = exchanges
    .filter((exchange, index) => index > 0 || exchange === exchanges.at(-1))
    .map((exchange) => `${exchange.said} ${exchange.reply.code}`)
  const label = (name: string) => `    ${dim(name.padEnd(8))}`
  console.log(bold(`${String(number).padStart(2)}  ${step.tried}`))
  console.log(label('said') + wrapped(said, ' '.repeat(12)))
  console.log(label('reply') + byReply(reply)(reply))
  console.log(label('rule') + wrapped(rules, ' '.repeat(12)))
  console.log(label('mail') + (arrived.length > 0 ? `arrived at ${arrived.join(' and ')}` : 'went nowhere'))
  if (!asExpected) console.log(label('BUT') + red(`expected: ${step.expected}, by ${step.rule}`))
  console.log()
}

function table(rows: string[][]) {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  for (const [index, row] of rows.entries()) {
    const line = row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')
    console.log(index === 0 ? bold(line) : line)
  }
}

async function main() {
  console.log(dim('Installing the package into a fresh Haraka and starting it on loopback ...\n'))
  const world = await startWorld()
  try {
    const watch = new Watch(world)
    watch.news()
    const rows = [['', 'tried', 'expected', 'happened', '']]
    let wrong = 0
    for (const [index, step] of story.entries()) {
      const happened = await play(step, world, watch)
      tell(index + 1, step, happened)
      if (!happened.asExpected) wrong++
      const mark = happened.asExpected ? 'ok' : 'NO'
      rows.push([String(index + 1).padStart(2), step.tried, step.expected, happened.text, mark])
    }
    await world.haraka.queueEmpty()
    for (const { server, to } of watch.news().arrivals) {
      wrong++
      rows.push(['', `${to.join(', ')} got a message more`, 'nothing', `arrives at ${server.name}`, 'NO'])
    }
    table(rows)
    console.log(wrong ? red(`\n${wrong} went otherwise.`) : green('\nAll as expected.'))
    process.exitCode = wrong ? 1 : 0
  } finally {
    await world.close()
  }
}

main().catch((error: Error) => {
  console.error(error.message)
  process.exit(1)
})
