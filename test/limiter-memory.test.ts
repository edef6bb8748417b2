import { MemoryStore } from '../core/limiter/memory'
import { testStore } from './support/limiter-contract'

testStore('memory', async () => new MemoryStore())
