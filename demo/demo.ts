// npm run demo: plays the story and ends with status 0, or 1 where anything went otherwise.
import { endOnSignals, isInterrupted } from './interrupt'
import { bold, byReply, dim, green, red, wrapped } from './paint'
import { type Happened, play } from './play'
import { type Step, story } from './story'
import { Watch } from './watch'
import { startWorld } from './world'

/** The exit status of a program that SIGINT ended, as a shell has it. */
const INTERRUPTED = 130

/** Parts with commas between them. */
const listed = (parts: string[]): string => wrapped(parts.join(', '), ' '.repeat(12))

function tell(number: number, step: Step, { exchanges, rules, arrived, asExpected }: Happened) {
  const reply = exchanges.at(-1)?.reply.lines.at(-1) ?? ''
  const said = exchanges
    .filter((exchange, index) => index > 0 || exchange === exchanges.at(-1))
    .map((exchange) => `${exchange.said} ${exchange.reply.code}`)
  const label = (name: string) => `    ${dim(name.padEnd(8))}`
  console.log(bold(`${String(number).padStart(2)}  ${step.tried}`))
  console.log(label('said') + listed(said))
  console.log(label('reply') + byReply(reply)(wrapped(reply, ' '.repeat(12))))
  console.log(label('rule') + listed(rules))
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
  endOnSignals()
  console.log(dim('Installing the package into a fresh Haraka and starting it on loopback ...\n'))
  const world = await startWorld()
  try {
    const watch = new Watch(world)
    watch.news()
    const rows = [['', 'tried', 'happened', '']]
    let wrong = 0
    for (const [index, step] of story.entries()) {
      const happened = await play(step, world, watch)
      tell(index + 1, step, happened)
      if (!happened.asExpected) wrong++
      const mark = happened.asExpected ? 'ok' : 'NO'
      rows.push([String(index + 1).padStart(2), step.tried, happened.text, mark])
      if (isInterrupted()) {
        process.exitCode = INTERRUPTED
        return
      }
    }
    await world.haraka.queueEmpty()
    for (const { server, to } of watch.news().arrivals) {
      wrong++
      rows.push(['', `${to.join(', ')} got a message more`, `arrives at ${server.name}`, 'NO'])
    }
    table(rows)
    console.log(wrong ? red(`\n${wrong} went otherwise.`) : green('\nAll as expected.'))
    process.exitCode = wrong ? 1 : 0
  } finally {
    await world.close()
  }
}

main().catch((error: Error) => {
  // Whatever Haraka, npm or a connection says of Ctrl-C is no error.
  if (isInterrupted()) process.exit(INTERRUPTED)
  console.error(error.message)
  process.exit(1)
})
