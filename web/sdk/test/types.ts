// Compiles only if index.d.ts says what the modules are. Never run.
import type * as Declared from '../index.js';
import * as Actual from '../exedra.js';

type Given<T> = { value: T };
export const room: Given<Omit<Declared.Room, 'on' | 'once' | 'off'>> = {} as Given<Actual.Room>;
export const participant: Given<Declared.Participant> = {} as Given<Actual.Participant>;
export const track: Given<Declared.Track> = {} as Given<Actual.Track>;
export const localTrack: Given<Declared.LocalTrack> = {} as Given<Actual.LocalTrack>;
export const error: Given<Declared.ExedraError> = {} as Given<Actual.ExedraError>;
export const meter: Given<Declared.LevelMeter> = {} as Given<Actual.LevelMeter>;
export const functions: Omit<typeof Declared, 'Room' | 'Participant' | 'Track' | 'LocalTrack' | 'ExedraError' | 'LevelMeter' | 'joinRoom' | 'createRoom'> = Actual;
