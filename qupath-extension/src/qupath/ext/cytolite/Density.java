package qupath.ext.cytolite;

import java.awt.image.BufferedImage;
import java.awt.image.Raster;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;

import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/**
 * The density maps that `cytolite spatial` wrote of a result: nuclei per mm2, a map of the whole slide for each type.
 */
public final class Density {
    public final List<String> types;
    /** Pixels of the full resolution that a pixel of the maps is wide. */
    public final double downsample;
    private final File file;

    private Density(File file, List<String> types, double downsample) {
        this.file = file;
        this.types = types;
        this.downsample = downsample;
    }

    public static File fileOf(File result) {
        return new File(result, "spatial/density.ome.tif");
    }

    /** Open the maps of a result. */
    public static Density open(File result) {
        File file = fileOf(result), measures = new File(file.getParentFile(), "measures.json");
        try {
            JsonObject about = JsonParser.parseString(Files.readString(measures.toPath())).getAsJsonObject();
            List<String> types = new ArrayList<>();
            about.getAsJsonArray("types").forEach(each -> types.add(each.getAsString()));
            int maps = read(file, reader -> reader.getNumImages(true));
            if (maps != types.size())
                throw new IOException("it has " + maps + " maps for " + types.size() + " types");
            return new Density(file, types, about.getAsJsonObject("window").get("px_um").getAsDouble() / about.get("mpp").getAsDouble());
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException | NumberFormatException problem) {
            throw unreadable(file, problem);
        }
    }

    /** Nuclei per mm2, by row and column. */
    public float[][] map(String type) {
        try {
            return read(file, reader -> {
                Raster raster = reader.read(types.indexOf(type)).getRaster();
                float[][] rows = new float[raster.getHeight()][];
                for (int y = 0; y < rows.length; y++)
                    rows[y] = raster.getSamples(0, y, raster.getWidth(), 1, 0, (float[]) null);
                return rows;
            });
        } catch (IOException | RuntimeException problem) {
            throw unreadable(file, problem);
        }
    }

    private static Stop unreadable(File file, Exception problem) {
        return new Stop(file + " cannot be read (" + problem.getMessage() + "); delete the folder that it is in, and ask for the map again.");
    }

    /** A map in colours that get lighter and less transparent to `most`. */
    public static BufferedImage picture(float[][] map, double most) {
        BufferedImage picture = new BufferedImage(map[0].length, map.length, BufferedImage.TYPE_INT_ARGB);
        for (int y = 0; y < map.length; y++)
            for (int x = 0; x < map[y].length; x++)
                picture.setRGB(x, y, colour(map[y][x] / most));
        return picture;
    }

    public static double most(float[][] map) {
        double most = 0;
        for (float[] row : map)
            for (float value : row)
                most = Math.max(most, value);
        return most;
    }

    /** Nothing where there is nothing; violet, red, yellow to 1. */
    public static int colour(double share) {
        if (!(share > 0.02))
            return 0;
        double s = Math.min(1, share);
        int[][] stops = {{70, 10, 110}, {190, 50, 90}, {245, 130, 30}, {252, 250, 120}};
        double at = s * (stops.length - 1);
        int i = Math.min((int) at, stops.length - 2);
        int argb = (int) (70 + 130 * s);
        for (int c = 0; c < 3; c++)
            argb = argb << 8 | (int) Math.round(stops[i][c] + (at - i) * (stops[i + 1][c] - stops[i][c]));
        return argb;
    }

    private interface Look<T> {
        T at(ImageReader reader) throws IOException;
    }

    private static <T> T read(File file, Look<T> look) throws IOException {
        try (ImageInputStream stream = ImageIO.createImageInputStream(file)) {
            if (stream == null)
                throw new IOException("it is not there");
            ImageReader reader = ImageIO.getImageReadersByFormatName("tiff").next();
            try {
                reader.setInput(stream);
                return look.at(reader);
            } finally {
                reader.dispose();
            }
        }
    }
}
