import type { Visitor } from '../access.ts'
import type { Done } from '../api/actions.ts'
import type { Overview as ServerOverview } from '../view/overview.ts'
import type { ProcessInfo } from '../view/process.ts'
import type { RunDetails, RunPage, ShownSchedules } from '../view/runs.ts'
import type { TaskDetails, TaskPage } from '../view/tasks.ts'

/** What is left of a type in JSON. */
type Json<T> = T extends Date ? string : T extends Array<infer I> ? Array<Json<I>> : T extends object ? { [K in keyof T]: Json<T[K]> } : T
type Answer<T> = Json<T & { process: ProcessInfo }>

export type Overview = Json<ServerOverview & { visitor?: Visitor }>
export type Tasks = Answer<TaskPage>
export type Task = Tasks['tasks'][number]
export type Details = Answer<TaskDetails>
export type Runs = Answer<RunPage>
export type ListedRun = Runs['runs'][number]
export type OneRun = Answer<{ run: RunDetails }>
export type Schedules = Answer<ShownSchedules>
export type Process = Overview['process']
export type { Done }
