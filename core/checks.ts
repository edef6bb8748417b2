// A policy as an ordered list of named checks over a value: the first one that has an answer decides.

/** One named check of a policy. */
export interface Check<Facts, Answer> {
  /** What is asked, in words for the operator. */
  name: string
  /** Undefined: this check has nothing to say, ask the next one. */
  ask(facts: Facts): Answer | undefined
}

/** The answer of the first check that has one. The last check of a list answers always; throws Error where it does not. */
export function decide<Facts, Answer>(checks: readonly Check<Facts, Answer>[], facts: Facts): Answer {
  for (const { ask } of checks) {
    const answer = ask(facts)
    if (answer !== undefined) return answer
  }
  throw new Error('no check had an answer')
}

/** Each check with its answer, in order, also those behind the one that decides: to explain a decision. */
export const walk = <Facts, Answer>(
  checks: readonly Check<Facts, Answer>[],
  facts: Facts,
): { name: string; answer: Answer | undefined }[] =>
  checks.map(({ name, ask }) => ({ name, answer: ask(facts) }))
