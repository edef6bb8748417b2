#!/usr/bin/env node
console.log('relay-guard')
