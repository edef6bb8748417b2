import { MemoryStore } from '../core/limiter/memory-store'
import { testStore } from './support/limiter-contract'

testStore(
  'memory',
  async () => new MemoryStore(),
  async ({ size }) => size,
)
