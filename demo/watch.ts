// What has happened since one last looked: decisions, from Haraka's log, and messages that arrived.
import type { Haraka } from '../test/support/haraka'
import type { Server, World } from './world'

/** One line of Haraka's log that tells a decision. */
export interface Decision {
  time: Date
  outcome: string
  rule: string
  ip: string
  user: string
  from: string
  to: string
  /** '' where nothing was refused. */
  reply: string
}

export interface Arrival {
  server: Server
  from: string
  to: string[]
  subject: string
}

export interface News {
  decisions: Decision[]
  arrivals: Arrival[]
  /** What else the bundle says: that a file was read again, or why not. */
  notices: string[]
}

/** Reads a line of the log; undefined where it tells no decision. */
export function parseDecision(line: string): Decision | undefined {
  const [, time, text] = /^(\S+) .*?\[relay-guard\/\w+\] decision (.*)$/.exec(line) ?? []
  if (time === undefined || text === undefined) return undefined
  const fields = new Map(
    [...text.matchAll(/(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))/g)].map(([, key, quoted, bare]) => [
      key,
      quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '',
    ]),
  )
  const field = (name: string) => fields.get(name) ?? ''
  return {
    time: new Date(time),
    outcome: field('outcome'),
    rule: field('rule'),
    ip: field('ip'),
    user: field('user'),
    from: field('from'),
    to: field('to'),
    reply: field('reply'),
  }
}

/** A refusal at accept() has no connection either, but is a decision. */
const isNotice = (line: string) => /\[-\] \[relay-guard\/\w+\]/.test(line) && !parseDecision(line)

export class Watch {
  #read = new Map<Haraka, number>()
  #seen = new Map<Server, number>()

  constructor(private world: World) {}

  news(): News {
    const { haraka, full } = this.world
    const lines = [haraka, full].flatMap((server) => (server ? this.#newLines(server) : []))
    return {
      decisions: lines.flatMap((line) => parseDecision(line) ?? []),
      arrivals: Object.values(this.world.servers).flatMap((server) => this.#newMessages(server)),
      notices: lines.filter(isNotice).map((line) => line.replace(/^.*?\[relay-guard\/\w+\]\s*/, '')),
    }
  }

  #newLines(haraka: Haraka): string[] {
    const output = haraka.output()
    const end = output.lastIndexOf('\n') + 1
    const lines = output.slice(this.#read.get(haraka) ?? 0, end).split('\n')
    this.#read.set(haraka, end)
    return lines
  }

  #newMessages(server: Server): Arrival[] {
    const { messages } = server.sink
    const fresh = messages.slice(this.#seen.get(server) ?? 0)
    this.#seen.set(server, messages.length)
    return fresh.map(({ from, to, data }) => ({
      server,
      from,
      to,
      subject: /^Subject: *(.*?)\r?$/im.exec(data.toString())?.[1] ?? '',
    }))
  }
}
