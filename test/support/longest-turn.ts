// How long work holds the event loop, in CPU time: on a busy machine the wall clock also counts what others did.

/** Runs the work and returns the most milliseconds of CPU that passed between two turns of the event loop. */
export async function longestTurn(work: () => Promise<void>): Promise<number> {
  let longest = 0
  let before = process.cpuUsage()
  let probe = setImmediate(function turn() {
    const { user, system } = process.cpuUsage(before)
    longest = Math.max(longest, (user + system) / 1000)
    before = process.cpuUsage()
    probe = setImmediate(turn)
  })
  await new Promise((resolve) => setImmediate(resolve))
  await work()
  await new Promise((resolve) => setImmediate(resolve))
  clearImmediate(probe)
  return longest
}
