// Types that a person gives to nuclei: kept by the server beside the result, and undone here.

import { json, sent, type Rgb } from "./api";
import type { Style } from "./style";

/** What is no nucleus. */
export const DELETED = "ignore*";
export type Change = [number, string | null];
/** Ids of types are below this: what the programs of WebGL have colours for. */
const MOST_TYPES = 64;

interface Told {
  path: string;
  labels: [number, string][];
  new_types: Record<string, Rgb>;
  others: number;
  before?: Change[];
}

export class Labels {
  names = new Map<number, string>();
  /** Rows of nuclei that the next type is given to. */
  readonly chosen = new Set<number>();
  path = "";
  others = 0;
  problem = "";
  private readonly undos: Change[][] = [];
  private readonly redos: Change[][] = [];
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly url: string,
    private readonly style: Style,
    private readonly changed: () => void,
  ) {}

  get canUndo(): boolean {
    return this.undos.length > 0;
  }

  get canRedo(): boolean {
    return this.redos.length > 0;
  }

  async load(): Promise<void> {
    try {
      this.take(await json<Told>(`${this.url}/labels`));
    } catch (error) {
      this.problem = (error as Error).message;
    }
    this.changed();
  }

  /** Give nuclei a type, `DELETED`, or with null their own again; false where the server refuses. */
  async set(rows: Iterable<number>, name: string | null): Promise<boolean> {
    const changes = [...rows].map((row): Change => [row, name]);
    return changes.length > 0 && this.send(changes, this.undos, true);
  }

  undo(): Promise<boolean> {
    return this.again(this.undos, this.redos);
  }

  redo(): Promise<boolean> {
    return this.again(this.redos, this.undos);
  }

  /** The id of the type that each labelled row is drawn with: 0 for what is no nucleus. */
  types(): Map<number, number> {
    const ids = new Map(this.style.kinds.map((kind) => [kind.name, kind.id]));
    return new Map([...this.names].map(([row, name]) => [row, ids.get(name) ?? 0]));
  }

  counts(): [string, number][] {
    const found = new Map<string, number>();
    for (const name of this.names.values()) found.set(name, (found.get(name) ?? 0) + 1);
    return [...found].sort((a, b) => b[1] - a[1]);
  }

  /** Make a type of that name if there is none, as the server writes names; "" where it cannot be. */
  addType(given: string, colour: Rgb = [204, 0, 153]): string {
    const name = given.replaceAll(":", " ").trim().split(/\s+/).join(" ").toLowerCase();
    if (!name || name.endsWith("*")) return "";
    if (this.style.kinds.some((kind) => kind.name === name)) return name;
    const id = Math.max(0, ...this.style.kinds.map((kind) => kind.id)) + 1;
    if (id >= MOST_TYPES) return "";
    this.style.kinds.push({ id, name, colour, safe_colour: colour });
    return name;
  }

  private async again(from: Change[][], to: Change[][]): Promise<boolean> {
    const changes = from.pop();
    if (!changes) return false;
    if (await this.send(changes, to, false)) return true;
    from.push(changes);
    return false;
  }

  /** One after the other: keys may come faster than answers. */
  private send(changes: Change[], back: Change[][], isNew: boolean): Promise<boolean> {
    const work = async (): Promise<boolean> => {
      try {
        const told = await sent<Told>(`${this.url}/labels`, { changes });
        back.push(told.before!);
        if (isNew) this.redos.length = 0;
        this.problem = "";
        this.take(told);
        return true;
      } catch (error) {
        this.problem = (error as Error).message;
        return false;
      } finally {
        this.changed();
      }
    };
    const done = this.last.then(work);
    this.last = done;
    return done;
  }

  private take(told: Told): void {
    for (const [name, colour] of Object.entries(told.new_types)) this.addType(name, colour);
    this.names = new Map(told.labels);
    [this.path, this.others] = [told.path, told.others];
  }
}
