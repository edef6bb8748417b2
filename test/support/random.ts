// Random numbers that can be had again by their seed. The same one is used every time: SEED=n explores others.
import fc from 'fast-check'

/** The seed of all random tests. */
export const seed = Number(process.env['SEED'] ?? 5321)

fc.configureGlobal({ seed })

/** fast-check with that seed: of itself it takes one from the clock. */
export { fc }

/** Numbers from 0 to below 1 (mulberry32). The same seed gives the same ones. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export const pick = <T>(list: readonly T[], random: () => number): T =>
  list[Math.floor(random() * list.length)]!

export function shuffled<T>(list: readonly T[], seed: number): T[] {
  const random = randomFrom(seed)
  return list
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
