// The next hop of the benchmark of callouts, in a process of its own: knows anna, and when it was asked for others.
import { type Stage, startSink } from '../test/support/sink'
import { answerQuestions } from './child'

const moments: number[] = []

function respond(stage: Stage, argument: string) {
  if (stage !== 'rcpt' || argument.startsWith('TO:<anna@')) return undefined
  moments.push(performance.now())
  return '550 5.1.1 No such user'
}

const started = startSink({ respond })

/** What it is asked: nothing but this. */
export interface CalloutSinkAnswer {
  port: number
  /** When it was asked for somebody it does not know, since the last time, ms. */
  moments: number[]
}

if (require.main === module)
  answerQuestions(
    async (): Promise<CalloutSinkAnswer> => ({ port: (await started).port, moments: moments.splice(0) }),
  )
