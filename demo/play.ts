// Plays one step and says what came of it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Step } from './story'
import type { Exchange } from './talk'
import type { Watch } from './watch'
import type { World } from './world'

export interface Happened {
  exchanges: Exchange[]
  /** The rules in Haraka's log, each once. */
  rules: string[]
  /** The servers that got a message. */
  arrived: string[]
  /** In the words of `expected`. */
  text: string
  asExpected: boolean
}

/** How long log and mail may lag behind the reply, ms. */
const PATIENCE = 20_000

export async function play(step: Step, world: World, watch: Watch): Promise<Happened> {
  const exchanges = await step.play(world)
  const rules = new Set<string>()
  const arrived: string[] = []
  const text = () => outcome(exchanges, arrived)
  const asExpected = () => rules.has(step.rule) && text() === step.expected
  for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(20)) {
    const news = watch.news()
    for (const { rule } of news.decisions) rules.add(rule)
    for (const { server } of news.arrivals) arrived.push(server.name)
    if (asExpected()) break
  }
  return { exchanges, rules: [...rules], arrived, text: text(), asExpected: asExpected() }
}

/** `mx1 and Internet`, whichever came first. */
const byName = (a: string, b: string) => b.localeCompare(a, 'en')

function outcome(exchanges: Exchange[], arrived: string[]): string {
  if (arrived.length > 0) return `arrives at ${[...arrived].sort(byName).join(' and ')}`
  const last = exchanges.at(-1)
  return last ? `${last.reply.code} ${last.reply.status} at ${last.said.split(' ')[0]}` : 'nothing'
}
