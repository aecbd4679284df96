// Tiles that are fetched when they come into view, and forgotten when others were needed since.

/** `used` is the frame that drew a tile last. */
interface Kept<Tile> {
  tile: Tile;
  used: number;
}

export class TileCache<Tile> {
  /** Why the last tile that is missing could not be had. */
  problem = "";
  private readonly tiles = new Map<string, Kept<Tile>>();
  private readonly coming = new Set<string>();
  private readonly failed = new Set<string>();
  private frame = 0;

  /** Keeps `most` tiles, or all that a frame uses if those are more, and fetches `atOnce` at a time; `end` frees one. */
  constructor(
    private readonly most: number,
    private readonly atOnce: number,
    private readonly fetch: (key: string) => Promise<Tile>,
    private readonly end: (tile: Tile) => void,
    private readonly changed: () => void,
  ) {}

  get waiting(): number {
    return this.coming.size;
  }

  /** Begin a frame: what is asked for from now on is in use. */
  begin(): void {
    this.frame++;
  }

  /** A tile to be drawn in this frame, if it is there. */
  use(key: string): Tile | undefined {
    const kept = this.tiles.get(key);
    if (kept) kept.used = this.frame;
    return kept?.tile;
  }

  /** A tile as it is, whether or not it is in view. */
  peek(key: string): Tile | undefined {
    return this.tiles.get(key)?.tile;
  }

  *all(): Iterable<Tile> {
    for (const { tile } of this.tiles.values()) yield tile;
  }

  hasFailed(key: string): boolean {
    return this.failed.has(key);
  }

  /** End a frame: fetch what was missing, in this order, and forget what was not used for longest. */
  finish(missing: Iterable<string>): void {
    for (const key of missing) if (this.coming.size < this.atOnce) void this.bring(key);
    if (this.tiles.size <= this.most) return;
    const old = [...this.tiles].filter(([, kept]) => kept.used < this.frame).sort((a, b) => a[1].used - b[1].used);
    for (const [key, { tile }] of old.slice(0, this.tiles.size - this.most)) {
      this.end(tile);
      this.tiles.delete(key);
    }
  }

  private async bring(key: string): Promise<void> {
    if (this.coming.has(key) || this.failed.has(key)) return;
    this.coming.add(key);
    try {
      this.tiles.set(key, { tile: await this.fetch(key), used: this.frame });
    } catch (error) {
      this.failed.add(key);
      this.problem = (error as Error).message;
    } finally {
      this.coming.delete(key);
      this.changed();
    }
  }
}
